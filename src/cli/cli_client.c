/* The command line's half of the admin socket: one HTTP/1.1 exchange over the daemon's Unix socket. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "os/socket.h"

enum { ANSWER_MAX = 16777216 };

void cli_answer_free(struct cli_answer *answer) {
    free(answer->body);
    answer->body = NULL;
}

static int receive_all(int fd, struct cli_answer *answer, uint8_t **ret_raw, size_t *ret_n) {
    size_t cap = 65536;
    size_t n = 0;
    uint8_t *raw = malloc(cap + 1);
    (void)answer;
    while (raw != NULL) {
        long got = os_recv(fd, raw + n, cap - n);
        if (got == 0) {
            raw[n] = '\0';
            *ret_raw = raw;
            *ret_n = n;
            return 0;
        }
        if (got < 0) {
            free(raw);
            return (int)got;
        }
        n += (size_t)got;
        if (n == cap) {
            cap *= 2;
            uint8_t *more = cap <= ANSWER_MAX ? realloc(raw, cap + 1) : NULL;
            if (more == NULL) {
                free(raw);
                return BH_E_TOO_BIG;
            }
            raw = more;
        }
    }
    return BH_E_NOMEM;
}

int cli_admin(const struct settings *settings, const char *method, const char *path,
              struct span body, struct cli_answer *ret_answer) {
    int fd = -1;
    int r = os_connect_unix(settings->listen_admin + 5, &fd);
    if (r != 0) {
        return BH_E_NOTFOUND;
    }
    char head[512];
    int n = snprintf(
        head, sizeof head,
        "%s %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", method,
        path, body.n);
    r = n > 0 && (size_t)n < sizeof head ? os_send_all(fd, head, (size_t)n) : BH_E_TOO_BIG;
    if (r == 0 && body.n != 0) {
        r = os_send_all(fd, body.p, body.n);
    }
    uint8_t *raw = NULL;
    size_t size = 0;
    if (r == 0) {
        r = receive_all(fd, ret_answer, &raw, &size);
    }
    os_close(fd);
    if (r != 0) {
        return r;
    }
    struct span all = span_of(raw, size);
    size_t end = span_find(all, SPAN_LIT("\r\n\r\n"));
    uint64_t status = 0;
    if (end == SIZE_MAX || size < 12 || !span_to_u64(span_cut(all, 9, 3), &status)) {
        free(raw);
        return BH_E_SYNTAX;
    }
    ret_answer->status = (unsigned)status;
    ret_answer->size = size - end - 4;
    memmove(raw, raw + end + 4, ret_answer->size + 1);
    ret_answer->body = raw;
    return 0;
}
