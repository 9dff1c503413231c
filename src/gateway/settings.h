/*
 * settings: bulkhead.yaml and the folder around it, read and checked.
 *
 *   DIR/bulkhead.yaml · DIR/plan.yaml · DIR/vendors/NAME.yaml        (meant for git)
 *   DIR/<data>/numbers                                               names -> numbers that records hold, given once, never reused
 *
 * A settings object is immutable after settings_load. Paths in it are absolute. Tokens are read from {env} or {file} here and overwritten when it is
 * freed. All keys: docs/settings.md. Memory: malloc; configuration time only.
 * Thread: any, read-only. Errors: CONFIG with file, line, column and caret.
 */
#ifndef BH_GATEWAY_SETTINGS_H
#define BH_GATEWAY_SETTINGS_H

#include "base/bytes.h"
#include "base/errors.h"
#include "base/net.h"
#include "engine/keyring/keyring.h"
#include "flow/ingest/ingest.h"
#include "model/limits.h"
#include "os/socket.h"

enum { SETTINGS_PATH = 1024 };

struct settings_source {
    char name[LIMIT_NAME + 1];
    uint16_t number;  /* 0 until settings_number */
    uint8_t protocol; /* enum protocol_id */
    bool trust_server;
    char space[LIMIT_NAME + 1]; /* ids: word, "" = the common one */
    uint64_t new_people_per_hour;
    char token[256];
    bool token_is_literal;
    char import_secret[256]; /* "" = none */
    char import_project_id[64];
    unsigned vendor_count;
    char vendors[16][LIMIT_NAME + 1];
};

struct settings {
    char dir[SETTINGS_PATH]; /* configuration folder, absolute */
    char data[SETTINGS_PATH];
    char instance[LIMIT_NAME + 1];
    uint16_t instance_number;
    char listen_ingest[128];
    char listen_admin[SETTINGS_PATH + 8]; /* "unix:/absolute" */
    char listen_health[128];
    char tls_certificate[SETTINGS_PATH]; /* "" = ingest takes plain HTTP */
    char tls_key[SETTINGS_PATH];
    struct keyring_source key;
    char key_text[SETTINGS_PATH]; /* behind key's pointer */
    uint64_t journal_keep_us;
    uint64_t journal_segment;
    uint64_t journal_max;     /* 0 = 60 % of the disk */
    uint32_t dedupe_window_s; /* 0 = off */
    unsigned loops;           /* 0 = one per core */
    uint64_t request_bytes;
    unsigned connections;
    unsigned connections_per_peer;
    unsigned head_timeout_ms;
    unsigned idle_timeout_ms;
    unsigned body_timeout_ms;
    unsigned proxy_count;
    struct net proxies[32]; /* trusted_proxies */
    unsigned source_count;
    struct settings_source *sources;
    unsigned vendor_count; /* files vendors/NAME.yaml, sorted */
    char vendors[LIMIT_VENDORS][LIMIT_NAME + 1];
};

/* Reads bulkhead.yaml of `dir` and lists vendors/. `secrets` false: tokens from env and file are not read (for commands that need none). */
int settings_load(const char *dir, bool secrets, struct settings **ret_settings,
                  struct err *err) BH_MUST_USE;
void settings_free(struct settings *settings);
/* Gives every source its number from data/numbers; new names get the next and, unless read_only, the file is rewritten. */
int settings_number(struct settings *settings, bool read_only, struct err *err) BH_MUST_USE;
/* DIR/vendors/NAME.yaml, DIR/plan.yaml. */
void settings_vendor_path(const struct settings *settings, const char *vendor, char *out,
                          size_t cap);
void settings_plan_path(const struct settings *settings, char *out, size_t cap);
/* The configuration folder to use: -c, else $BULKHEAD_DIR, else ".". */
const char *settings_dir(const char *option);

#endif
