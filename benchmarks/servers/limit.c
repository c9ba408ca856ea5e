/* The physical limit: send() to every socket, one after the other, and nothing else.
 *
 * Prints its address. A line "<events> <burst> <frame bytes>" on standard input has it send that many events, a burst
 * as one send() per socket, to every client that has connected; it answers "<started> <ended>" in ns of
 * CLOCK_MONOTONIC. Ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 20000

static int clients[MOST];
static int count;

static long long now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int listening(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
	    getsockname(listener, (struct sockaddr *)&address, &size)) {
		perror("listen");
		exit(1);
	}
	printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
	return listener;
}

static void accept_one(int listener)
{
	int on = 1, client = accept(listener, NULL, NULL);
	if (client < 0 || count == MOST)
		return;
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	clients[count++] = client;
}

static void send_all(int client, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t sent = send(client, data, size, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		data += sent;
		size -= (size_t)sent;
	}
}

static void generate(long events, long burst, long frame)
{
	size_t size = (size_t)(burst * frame);
	char *data = malloc(size);
	if (data == NULL)
		exit(1);
	memset(data, 'x', size);
	long long started = now_ns();
	for (long done = 0; done < events; done += burst)
		for (int index = 0; index < count; index++)
			send_all(clients[index], data, size);
	printf("%lld %lld\n", started, now_ns());
	free(data);
}

int main(void)
{
	char line[128];
	long events, burst, frame;
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct pollfd watched[2] = {{.fd = 0, .events = POLLIN}, {.fd = listening(), .events = POLLIN}};
	while (poll(watched, 2, -1) > 0) {
		if (watched[1].revents) {
			accept_one(watched[1].fd);
		} else if (watched[0].revents) {
			ssize_t got = read(0, line, sizeof line - 1);
			if (got <= 0)
				break;
			line[got] = 0;
			if (sscanf(line, "%ld %ld %ld", &events, &burst, &frame) == 3)
				generate(events, burst, frame);
		}
	}
	return 0;
}
