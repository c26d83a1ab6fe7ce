/* The floor: a blocking echo between two processes over a Unix stream socket pair. No encoding, no loop, no Python.
   usage: floor ROUND_TRIPS BYTES; prints the seconds they took. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int move(ssize_t (*step)(int, char *, size_t), int fd, char *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t got = step(fd, data + done, size - done);
        if (got <= 0) return 0;
        done += (size_t)got;
    }
    return 1;
}

static ssize_t reading(int fd, char *data, size_t size) { return read(fd, data, size); }
static ssize_t writing(int fd, char *data, size_t size) { return write(fd, data, size); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long trips = atol(argv[1]);
    size_t size = (size_t)atol(argv[2]);
    char *data = calloc(size, 1);
    int ends[2];
    if (!data || socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        close(ends[0]);
        while (move(reading, ends[1], data, size) && move(writing, ends[1], data, size)) {}
        _exit(0);
    }
    close(ends[1]);
    double start = 0;
    for (long trip = -1; trip < trips; trip++) { /* the first one is not counted */
        if (trip == 0) start = now();
        if (!move(writing, ends[0], data, size) || !move(reading, ends[0], data, size)) return 1;
    }
    printf("%.9f\n", now() - start);
    close(ends[0]);
    waitpid(child, NULL, 0);
    return 0;
}
