/* http_client.c - see http_client.h. */
#include "http_client.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S 20

int client_open(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {PATIENCE_S, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void client_send(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* the server may refuse the rest */
        p += sent;
        n -= (size_t)sent;
    }
}

void client_text(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

static bool more(int fd, struct hth_buf *b)
{
    char piece[65536];
    ssize_t n = recv(fd, piece, sizeof piece, 0);

    if (n <= 0)
        return false;
    hth_put_bytes(b, piece, (size_t)n);
    return !b->failed;
}

const char *client_all(int fd, struct hth_buf *b)
{
    hth_buf_init(b, CLIENT_BYTES_MAX);
    while (more(fd, b))
        ;
    return hth_buf_cstr(b);
}

const char *client_until(int fd, struct hth_buf *b, const char *text)
{
    if (b->max == 0)
        hth_buf_init(b, CLIENT_BYTES_MAX);
    while (strstr(hth_buf_cstr(b), text) == NULL)
        if (!more(fd, b))
            return NULL;
    return hth_buf_cstr(b);
}

static const char *ask(uint16_t port, const char *head, const char *body,
                       struct hth_buf *b)
{
    int fd = client_open(port);
    const char *all;

    client_text(fd, head);
    client_text(fd, body);
    all = client_all(fd, b);
    close(fd);
    return all;
}

const char *client_post(uint16_t port, const char *path, const char *json,
                        struct hth_buf *b)
{
    char head[512];

    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             path, strlen(json));
    return ask(port, head, json, b);
}

const char *client_get(uint16_t port, const char *path, struct hth_buf *b)
{
    char head[512];

    snprintf(head, sizeof head,
             "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             path);
    return ask(port, head, "", b);
}

int client_status(const char *answer)
{
    int status = 0;

    return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}
