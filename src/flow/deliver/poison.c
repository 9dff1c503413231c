/*
 * data/poison/<vendor>.ndjson: events that the vendor refused alone, for a person to look at. No values: seq, insert id, status, time.
 * The file is renamed to .1 at 16 MiB, so the list stays bounded; the ledger holds every refusal anyway.
 */
#include <stdio.h>

#include "engine/json/json.h"
#include "flow/deliver/deliver_int.h"
#include "os/file.h"
#include "os/log.h"

enum { POISON_FILE_MAX = 16 * 1024 * 1024 };

static int append(struct courier *courier, struct span line) {
    char folder[COURIER_PATH + 16];
    char path[2 * COURIER_PATH];
    char older[2 * COURIER_PATH + 4];
    (void)snprintf(folder, sizeof folder, "%s/poison", courier->data_dir);
    (void)snprintf(path, sizeof path, "%s/%s.ndjson", folder, courier->vendor);
    (void)snprintf(older, sizeof older, "%s.1", path);
    struct os_file file = OS_FILE_NONE;
    uint64_t size = 0;
    int r = os_dir_make(folder);
    r = r == 0 ? os_file_open(path, OS_OPEN_READ | OS_OPEN_WRITE | OS_OPEN_CREATE, &file) : r;
    r = r == 0 ? os_file_size(file, &size) : r;
    r = r == 0 ? os_file_write_at(file, size, line.p, line.n) : r;
    os_file_close(&file);
    if (r == 0 && size > POISON_FILE_MAX) {
        r = os_path_rename(path, older);
    }
    return r;
}

/* As it went out; empty for what carries none. */
static struct span insert_id_of(struct courier *courier, const struct window_item *item) {
    struct span rest = window_json(&courier->window, item);
    struct span json = rest;
    (void)outgoing_next(&rest, &json); /* the first part's */
    struct json_token *tokens = courier->tokens;
    size_t count = 0;
    size_t offset = 0;
    if (json_parse(json, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0) {
        return SPAN_NONE;
    }
    const struct protocol_names *names = &courier->rules->ops->names;
    uint32_t object = names->at_root ? 0 : json_get(json, tokens, 0, SPAN_LIT("properties"));
    uint32_t id = names->at_root || object != 0
                      ? json_get(json, tokens, object, span_str(names->insert_id))
                      : 0;
    return id != 0 ? json_span(json, &tokens[id]) : SPAN_NONE;
}

void poison_note(struct courier *courier, const struct window_item *item, uint16_t status,
                 uint64_t time_ms) {
    uint8_t room[256];
    struct buf b = buf_of(room, sizeof room);
    buf_printf(&b, "{\"seq\":%llu,\"insert_id\":", (unsigned long long)item->seq);
    json_put_string(&b, insert_id_of(courier, item));
    buf_printf(&b, ",\"status\":%u,\"time_ms\":%llu}\n", status, (unsigned long long)time_ms);
    int r = append(courier, buf_span(&b));
    log_event(LOG_WARN, "event set aside: the vendor refuses it",
              LOG_WORD("vendor", courier->vendor), LOG_INT("seq", item->seq),
              LOG_INT("status", status), LOG_INT("listed", r == 0));
}
