"""The clients, in a process of their own: raw sockets, prebuilt frames, one epoll set."""
