#define _GNU_SOURCE
#include "base/os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"

#define BACKLOG 512
#define CONNECT_LOOK_MS 10
#define LISTENERS_BEGIN 3 /* SD_LISTEN_FDS_START */

/* ---- TCP ---- */

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } socket;
    socklen_t size;
};

static bool parse_address(const char *text, uint16_t port, struct address *out)
{
    *out = (struct address){0};
    if (inet_pton(AF_INET, text, &out->socket.v4.sin_addr) == 1) {
        out->socket.v4.sin_family = AF_INET;
        out->socket.v4.sin_port = htons(port);
        out->size = sizeof out->socket.v4;
        return true;
    }
    if (inet_pton(AF_INET6, text, &out->socket.v6.sin6_addr) == 1) {
        out->socket.v6.sin6_family = AF_INET6;
        out->socket.v6.sin6_port = htons(port);
        out->size = sizeof out->socket.v6;
        return true;
    }
    return false;
}

static bool is_loopback(const struct address *address)
{
    if (address->socket.any.sa_family == AF_INET)
        return ntohl(address->socket.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&address->socket.v6.sin6_addr);
}

bool os_address_is_loopback(const char *text)
{
    struct address address;
    return parse_address(text, 0, &address) && is_loopback(&address);
}

int os_listen_tcp(const char *text, uint16_t port, struct hearth_error *err)
{
    struct address address;
    int on = 1;
    if (!parse_address(text, port, &address))
        return error_set(err, HEARTH_E_ARGUMENT, "'%s' is no numeric address", text);
    int family = address.socket.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, HEARTH_E_IO, "no socket: %s", strerror(errno));
    /* connections of a server that has ended do not keep its port for minutes */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, &address.socket.any, address.size) != 0 || listen(fd, BACKLOG) != 0) {
        int cause = errno;
        close(fd);
        return cause == EADDRINUSE
                   ? error_set(err, HEARTH_E_STATE, "port %u of %s is in use by another process",
                               port, text)
                   : error_set(err, HEARTH_E_IO, "cannot listen on port %u of %s: %s", port, text,
                               strerror(cause));
    }
    return fd;
}

uint16_t os_socket_port(int fd)
{
    struct address address = {.size = sizeof address.socket};
    if (getsockname(fd, &address.socket.any, &address.size) != 0)
        return 0;
    if (address.socket.any.sa_family == AF_INET)
        return ntohs(address.socket.v4.sin_port);
    return address.socket.any.sa_family == AF_INET6 ? ntohs(address.socket.v6.sin6_port) : 0;
}

bool os_socket_is_local(int fd)
{
    struct address address = {.size = sizeof address.socket};
    if (getsockname(fd, &address.socket.any, &address.size) != 0)
        return false;
    sa_family_t family = address.socket.any.sa_family;
    return family == AF_UNIX ||
           ((family == AF_INET || family == AF_INET6) && is_loopback(&address));
}

bool os_socket_name(int fd, char out[OS_SOCKET_NAME_BYTES])
{
    union {
        struct address tcp;
        struct sockaddr_un file;
    } address = {.file = {.sun_family = AF_UNSPEC}};
    char text[INET6_ADDRSTRLEN];
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    const struct sockaddr_in *v4 = &address.tcp.socket.v4;
    const struct sockaddr_in6 *v6 = &address.tcp.socket.v6;
    switch (address.file.sun_family) {
    case AF_UNIX: /* without a path it is anonymous or abstract */
        snprintf(out, OS_SOCKET_NAME_BYTES, "unix:%.*s", (int)sizeof address.file.sun_path,
                 address.file.sun_path);
        return true;
    case AF_INET:
        snprintf(out, OS_SOCKET_NAME_BYTES, "http://%s:%u",
                 inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text), ntohs(v4->sin_port));
        return true;
    case AF_INET6:
        snprintf(out, OS_SOCKET_NAME_BYTES, "http://[%s]:%u",
                 inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text), ntohs(v6->sin6_port));
        return true;
    default:
        return false;
    }
}

/* ---- Unix sockets ---- */

struct os_socket_file {
    int lock;
    bool adopted; /* the socket is whoever's who opened it */
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* Takes the lock beside the socket for as long as its descriptor is open, and writes our number
 * into it. The lock file stays: removing it could remove the one that another process has just
 * locked. */
static int lock_socket_file(const char *path, struct hearth_error *err)
{
    char name[sizeof((struct os_socket_file *)0)->path + 8], text[24] = "";
    snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, HEARTH_E_IO, "%s: %s", name, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t size = pread(fd, text, sizeof text - 1, 0);
        long process = size > 0 ? strtol(text, NULL, 10) : 0;
        close(fd);
        return process > 0
                   ? error_set(err, HEARTH_E_STATE, "process %ld listens at %s", process, path)
                   : error_set(err, HEARTH_E_STATE, "another process listens at %s", path);
    }
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size) {
        close(fd);
        return error_set(err, HEARTH_E_IO, "%s: %s", name, strerror(errno));
    }
    return fd;
}

/* Removes a socket that nobody listens at. What is no socket, or answers, stays. */
static int remove_stale_socket(const struct sockaddr_un *address, struct hearth_error *err)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0)
        return errno == ENOENT
                   ? 0
                   : error_set(err, HEARTH_E_IO, "%s: %s", address->sun_path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, HEARTH_E_STATE, "%s exists and is no socket", address->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    if (!dead)
        return error_set(err, HEARTH_E_STATE, "another program listens at %s", address->sun_path);
    if (unlink(address->sun_path) != 0)
        return error_set(err, HEARTH_E_IO, "%s: %s", address->sun_path, strerror(errno));
    return 0;
}

/* Nobody can connect between bind and listen, so there is no moment with wider permissions. */
static int bind_unix(const struct sockaddr_un *address, struct hearth_error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, HEARTH_E_IO, "no socket: %s", strerror(errno));
    bool bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (!bound || chmod(address->sun_path, 0600) != 0 || listen(fd, BACKLOG) != 0) {
        int cause = errno;
        if (bound)
            unlink(address->sun_path);
        close(fd);
        return error_set(err, HEARTH_E_IO, "cannot listen at %s: %s", address->sun_path,
                         strerror(cause));
    }
    return fd;
}

static int unix_address(const char *path, struct sockaddr_un *out, struct hearth_error *err)
{
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof out->sun_path)
        return error_set(err, HEARTH_E_ARGUMENT,
                         "a socket's path has 1 to %zu bytes, this one has %zu",
                         sizeof out->sun_path - 1, size);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, path, size + 1);
    return 0;
}

int os_listen_unix(const char *path, struct os_socket_file **out, struct hearth_error *err)
{
    struct sockaddr_un address;
    if (unix_address(path, &address, err))
        return HEARTH_E_ARGUMENT;
    struct os_socket_file *file = MEM_NEW(struct os_socket_file);
    if (!file)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a socket");
    memcpy(file->path, address.sun_path, sizeof file->path);
    file->lock = lock_socket_file(path, err);
    int status = file->lock < 0 ? file->lock : remove_stale_socket(&address, err);
    int fd = status ? status : bind_unix(&address, err);
    if (fd < 0) {
        if (file->lock >= 0)
            close(file->lock);
        mem_free(file);
        return fd;
    }
    *out = file;
    return fd;
}

void os_socket_file_remove(struct os_socket_file *file)
{
    if (!file)
        return;
    if (!file->adopted)
        unlink(file->path);
    close(file->lock);
    mem_free(file);
}

int os_connect_unix(const char *path, uint64_t ns, struct hearth_error *err)
{
    struct sockaddr_un address;
    if (unix_address(path, &address, err))
        return HEARTH_E_ARGUMENT;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, HEARTH_E_IO, "no socket: %s", strerror(errno));
    uint64_t begin = os_monotonic_ns();
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int cause = errno;
        /* the queue of those who wait is full, and nothing tells when it no longer is */
        if ((cause == EAGAIN || cause == EINTR) && os_monotonic_ns() - begin < ns) {
            poll(NULL, 0, CONNECT_LOOK_MS);
            continue;
        }
        close(fd);
        bool nobody = cause == ENOENT || cause == ENOTDIR || cause == ECONNREFUSED;
        return error_set(err, nobody ? HEARTH_E_MISSING : HEARTH_E_IO, "%s: %s", path,
                         cause == EAGAIN ? "too many wait there" : strerror(cause));
    }
    return fd;
}

/* ---- all sockets ---- */

int os_adopt_listener(int fd, struct hearth_error *err)
{
    int listening = 0, type = 0;
    socklen_t size = sizeof listening, type_size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0)
        return error_set(err, HEARTH_E_ARGUMENT, "descriptor %d: %s", fd, strerror(errno));
    if (!listening || type != SOCK_STREAM)
        return error_set(err, HEARTH_E_ARGUMENT, "descriptor %d is no listening stream socket", fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return error_set(err, HEARTH_E_IO, "descriptor %d: %s", fd, strerror(errno));
    return 0;
}

int os_adopt_socket_file(int fd, struct os_socket_file **out, struct hearth_error *err)
{
    char name[OS_SOCKET_NAME_BYTES];
    struct hearth_error cause = {0};
    *out = NULL;
    if (!os_socket_name(fd, name) || strncmp(name, "unix:/", 6) != 0)
        return 0;
    struct os_socket_file *file = MEM_NEW(struct os_socket_file);
    if (!file)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a socket");
    snprintf(file->path, sizeof file->path, "%.*s", (int)sizeof file->path - 1, name + 5);
    file->adopted = true;
    file->lock = lock_socket_file(file->path, &cause);
    if (file->lock >= 0) {
        *out = file;
        return 0;
    }
    mem_free(file);
    /* a folder that is another user's is no obstacle: the socket is there */
    return cause.code == HEARTH_E_STATE ? error_set(err, cause.code, "%s", cause.text) : 0;
}

/* Reads a whole number without sign; false where the text is none, or larger. */
static bool read_count(const char *text, unsigned long max, unsigned long *out)
{
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || errno != 0 || value > max)
        return false;
    *out = value;
    return true;
}

int os_inherited_listeners(const char *process, const char *count, int *fds, unsigned max,
                           struct hearth_error *err)
{
    unsigned long pid, number;
    if (!read_count(process, INT_MAX, &pid) || pid != (unsigned long)getpid() || !count)
        return 0;
    if (!read_count(count, max, &number))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "LISTEN_FDS is '%.20s', which is no number up to %u", count, max);
    for (int i = 0; i < (int)number; i++) {
        int status = os_adopt_listener(LISTENERS_BEGIN + i, err);
        if (status)
            return status;
        fds[i] = LISTENERS_BEGIN + i;
    }
    return (int)number;
}

void os_socket_prepare(int fd, size_t unsent_max)
{
    int on = 1, bytes = (int)unsent_max, idle = 60;
    if (os_socket_port(fd) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
    /* a machine that vanished is noticed in some minutes */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
}

void os_socket_end_output(int fd)
{
    shutdown(fd, SHUT_WR);
}

void os_socket_end_input(int fd)
{
    shutdown(fd, SHUT_RD);
}

void os_socket_send(int fd, const void *bytes, size_t size)
{
    /* whoever does not take it misses a courtesy */
    ssize_t sent = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
}

bool os_write_now(int fd, const void *bytes, size_t size)
{
    struct pollfd output = {.fd = fd, .events = POLLOUT};
    ssize_t written = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* a pipe that can be written to has room for 4 KiB */
    if (written < 0 && errno == ENOTSOCK && poll(&output, 1, 0) == 1 && (output.revents & POLLOUT))
        written = write(fd, bytes, size);
    return written == (ssize_t)size;
}

/* ---- descriptors over sockets ---- */

#define PASSED_MAX 16

union passed {
    char bytes[CMSG_SPACE(PASSED_MAX * sizeof(int))];
    struct cmsghdr align;
};

int os_socket_pair(int out[2], struct hearth_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(err, HEARTH_E_IO, "no socket: %s", strerror(errno));
    out[0] = pair[0];
    out[1] = pair[1];
    return 0;
}

ptrdiff_t os_socket_send_with(int fd, const void *bytes, size_t size, const int *descriptors,
                              unsigned count, struct hearth_error *err)
{
    union passed control = {{0}};
    struct iovec piece = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(rights), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    if (errno == EPIPE || errno == ECONNRESET)
        return error_set(err, HEARTH_E_MISSING, "the other side has closed the connection");
    return error_set(err, HEARTH_E_IO, "cannot be sent: %s", strerror(errno));
}

/* Takes the descriptors of a received message; false where there are too many for us. */
static bool take_descriptors(struct msghdr *message, int *descriptors, unsigned max,
                             unsigned *count)
{
    unsigned taken = 0;
    bool fits = (message->msg_flags & MSG_CTRUNC) == 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t number = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < number; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (taken < max)
                descriptors[taken++] = fd;
            else
                close(fd);
            fits = fits && i < max;
        }
    }
    for (unsigned i = 0; !fits && i < taken; i++)
        close(descriptors[i]);
    *count = fits ? taken : 0;
    return fits;
}

ptrdiff_t os_socket_receive_with(int fd, void *bytes, size_t size, int *descriptors, unsigned max,
                                 unsigned *count, struct hearth_error *err)
{
    union passed control;
    struct iovec piece = {bytes, size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t got;
    *count = 0;
    do {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return error_set(err, HEARTH_E_MISSING, "the other side has closed the connection");
    if (got < 0)
        return error_set(err, HEARTH_E_IO, "cannot be received: %s", strerror(errno));
    if (!take_descriptors(&message, descriptors, max, count))
        return error_set(err, HEARTH_E_LIMIT, "more than %u descriptors at once", max);
    return got;
}

bool os_socket_wait(int fd, bool output, uint64_t ns)
{
    struct pollfd entry = {.fd = fd, .events = output ? POLLOUT : POLLIN};
    const struct timespec time = {
        .tv_sec = (time_t)(ns / 1000000000u),
        .tv_nsec = (long)(ns % 1000000000u),
    };
    int ready;
    do {
        ready = ppoll(&entry, 1, ns == UINT64_MAX ? NULL : &time, NULL);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

int os_duplicate(int fd, struct hearth_error *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy >= 0 ? copy
                     : error_set(err, HEARTH_E_IO, "no descriptor is left: %s", strerror(errno));
}

void os_ignore_broken_pipes(void)
{
    struct sigaction action = {0};
    action.sa_handler = SIG_IGN;
    sigemptyset(&action.sa_mask);
    sigaction(SIGPIPE, &action, NULL);
}
