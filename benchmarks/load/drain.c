/* Reads all that arrives at the sockets of an epoll set, and counts it: the reader that is never the bottleneck.
 *
 * Naps for `nap` seconds between two looks, so that no sender has to wake it for each frame.
 * Stops after `want` bytes, `seconds`, or `quiet` seconds without a byte (negative: never). With `capacity` above 0 the
 * age of each mark "at":"<19 digits>" (ns of CLOCK_MONOTONIC) is written to `ages`.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define EVENTS 4096
#define DIGITS 19

struct drained {
	long long bytes, finished, ages, closed;
};

static char buffer[1 << 18];
static const char mark[] = "\"at\":\"";

static long long now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void take_ages(size_t size, long long now, long long *ages, long long capacity, struct drained *result)
{
	char *at = buffer, *end = buffer + size;
	while (result->ages < capacity && (at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1)) != NULL) {
		at += sizeof mark - 1;
		if (end - at < DIGITS)
			return;
		long long due = 0;
		for (int index = 0; index < DIGITS; index++)
			due = due * 10 + (at[index] - '0');
		ages[result->ages++] = now - due;
	}
}

void drain(int epoll, long long want, double seconds, double quiet, double nap, long long *ages, long long capacity,
	   struct drained *result)
{
	static struct epoll_event events[EVENTS];
	struct timespec pause = {.tv_nsec = (long)(nap * 1e9)};
	long long last = now_ns(), deadline = last + (long long)(seconds * 1e9);
	memset(result, 0, sizeof *result);
	result->finished = last;
	while (want < 0 || result->bytes < want) {
		int ready = epoll_wait(epoll, events, EVENTS, 5);
		long long now = now_ns();
		for (int index = 0; index < ready; index++) {
			int client = events[index].data.fd;
			ssize_t got = recv(client, buffer, sizeof buffer, MSG_DONTWAIT);
			if (got > 0) {
				result->bytes += got;
				if (capacity > 0)
					take_ages((size_t)got, now_ns(), ages, capacity, result);
			} else if (got == 0 || !(events[index].events & EPOLLIN)) {
				epoll_ctl(epoll, EPOLL_CTL_DEL, client, NULL);
				result->closed++;
			}
		}
		if (ready > 0)
			result->finished = last = now_ns();
		else if (now > deadline || (quiet >= 0 && now - last > (long long)(quiet * 1e9)))
			return;
		if (last > deadline)
			return;
		if (nap > 0 && ready > 0)
			nanosleep(&pause, NULL);
	}
}
