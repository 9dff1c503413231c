/* The texts are laid out here as the files are. */
#include "cli/init_files.h"

#include <string.h>

#include "base/compiler.h"

/* clang-format off */
static const char bulkhead_yaml[] =
"# bulkhead.yaml: this instance, where it listens, and which of your applications send to it.\n"
"# This folder is meant for git: no key, no secret and no data belongs in it. After a change:\n"
"#   bulkhead contract check     reads all files and names the line of every mistake\n"
"#   kill -HUP <pid>             takes the new files, all of them or none\n"
"\n"
"instance: @INSTANCE@\n"
"\n"
"listen:\n"
"  ingest: 127.0.0.1:8080        # the SDKs: point them at http://…:8080/@VENDOR@ (plain HTTP; see tls)\n"
"# tls: { certificate: tls/chain.pem, key: /etc/ssl/private/gateway.key } # ingest by TLS; a reload takes a new certificate\n"
"  admin: unix:admin.sock        # the commands; in the data folder, for its owner only\n"
"  health: 127.0.0.1:8082        # /healthz /readyz /metrics\n"
"# trusted_proxies: [10.0.0.7]   # of the balancer before this: its connections are not counted as one peer's\n"
"\n"
"data: ./data                    # journal, ledger, keys wrapped by the master key; .gitignore keeps it out of git\n"
"\n"
"# The master key opens everything in data. It was written outside of this folder: back it up, apart from data.\n"
"# Without it nothing here can be read again. Other places: { env: NAME }, { exec: COMMAND }, { credential: NAME }.\n"
"key: { file: @KEY@ }\n"
"\n"
"journal:\n"
"  keep: 7d                      # longest life of an event that every vendor has settled\n"
"  segment: 128MiB\n"
"  max: 60%                      # of the disk; a vendor that is cut or dead holds segments back up to here\n"
"\n"
"# An application that sends. Its token is Bulkhead's own, never the vendor's: make one up.\n"
"#   trust: browser  the token is public (it stands in a web page), so what it claims about people is not proved\n"
"#   trust: server   the token is a secret: write { env: NAME } or { file: PATH }\n"
"#   vendors         whom this source's events may reach at all; each has a contract in vendors/\n"
"sources:\n"
"  - { name: web, protocol: @VENDOR@, token: web_token_change_me, trust: browser, vendors: [@VENDOR@] }\n"
"# - { name: api, protocol: @VENDOR@, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [@VENDOR@] }\n";

static const char plan_yaml[] =
"# plan.yaml: what your events and properties mean.\n"
"# What is not declared here, or reserved by the protocol ($browser, $current_url …), does not leave. It is held back, counted and\n"
"# listed: `bulkhead preview VENDOR --held` says what is missing and proposes lines. `*` matches any run of characters.\n"
"#\n"
"# types   boolean   number   url   time   and string, which needs one of\n"
"#           enum: [free, plus, pro]      these words and no others\n"
"#           pattern: '[A-Z]{3}-[0-9]+'   the whole value looks like this\n"
"#           max_distinct: 50             at most so many different values, then the property closes: a list, no free text\n"
"# class   what kind of data it is, which the contract opens or not; user.behavior unless said\n"
"\n"
"events:\n"
"  Signed Up: { properties: { plan: { enum: [free, plus, pro] } } } # plan means this in Signed Up only\n"
"  Signed In: {}\n"
"  Completion Run: {}\n"
"  Step *: {}                    # Step 1, Step Payment, …\n"
"\n"
"properties:                     # on any event\n"
"  tokens: { type: number }\n"
"  latency_ms: { type: number }\n"
"  stream: { type: boolean }\n"
"  model: { type: string, max_distinct: 50 }\n"
"  currency: { pattern: '[A-Z]{3}' }\n"
"  page: { type: url }           # a url is user.behavior.browsing_history without being told\n"
"  cart.total: { type: number }  # the member total of an object cart; lists need no sign, each element is asked\n"
"\n"
"traits:                         # of a person's or a group's profile\n"
"  plan: { enum: [free, plus, pro] }\n"
"\n"
"# consent:                      # which properties say what a person agreed to, for `requires:` in a contract\n"
"#   properties: { consent_analytics: analytics, consent_choices: categories }\n"
"#   categories: { C0002: analytics, C0004: advertising } # what the ids of your consent manager mean\n"
"\n"
"groups:                         # whom a person belongs to: the key is a property, its values are ids\n"
"  company: { class: user.workplace }\n";

/* A vendor's contract: what it is called, where it takes events, and the environment's name of its credential; the rest is the same for all. */
#define CONTRACT(name, endpoint, env) \
    "# vendors/" name ".yaml: the contract. It says what this vendor may receive, and why; all else is closed.\n" \
    "# A new vendor starts cut: look with `bulkhead preview " name " --held` and `--explain`, then `bulkhead restore " name " --replay`.\n" \
    "\n" \
    "vendor: " name " # the name of this file\n" \
    "connector: " name " # the protocol that it speaks\n" \
    "endpoint: " endpoint "\n" \
    "# egress: [public, 10.20.0.0/16] # where it may lie; unless said at public addresses only, whatever its name leads to\n" \
    "# proxy: http://proxy.example:3128 # or https://, socks5h://; { url: …, credential: { env: NAME } }; the environment's has no effect\n" \
    "# pin: sha256//…                # the server's key, beside its certificate; a list takes the next one in as well\n" \
    "credential: { env: " env " } # or { file: PATH } or { systemd: NAME }; never in git, arguments or logs\n" \
    "purpose: analytics              # Fideslang data use\n" \
    "retention: 400d                 # what the vendor's own setting must be\n" \
    "\n" \
    "# class: form. The most specific line decides. A line for a parent holds for its children, except for identifiers, IP addresses, URLs,\n" \
    "# purchases and searches: those open by a line of their own only. Passwords, credentials, payment data, government ids, health,\n" \
    "# biometrics and the like never leave; no line can open them.\n" \
    "#   raw         as it is                     pseudonym  another id for this vendor alone; it keeps its shape\n" \
    "#   coarse      country, family, path, /24   mask       j…@example.com\n" \
    "#   redact      the place becomes [class]    drop       not at all, though a parent's line would\n" \
    "allow:\n" \
    "  user.unique_id: pseudonym              # joins one person's steps: funnel, retention, cohort\n" \
    "  user.unique_id.pseudonymous: pseudonym # the visit before login; the vendor merges the two\n" \
    "  user.device.device_id: pseudonym\n" \
    "  user.device.cookie_id: pseudonym       # session ids\n" \
    "  user.device: { coarse: family }        # Chrome, Mac OS X; no versions, no screen sizes\n" \
    "  user.location.imprecise: { coarse: country }\n" \
    "  user.workplace: pseudonym              # group analytics without the company's name\n" \
    "  user.behavior: raw                     # declared event names, booleans, enums, numbers\n" \
    "  user.behavior.browsing_history: { coarse: path } # own pages without ids and query; of other sites the domain\n" \
    "  user.privacy_preferences: raw\n" \
    "  system.operations: raw                 # name and version of the SDK\n" \
    "# user.contact.email: mask               # a line like this opens one more thing; say here why\n" \
    "\n" \
    "time: second                    # precision that leaves: ms, second, minute or hour; exact times join two vendors\n" \
    "# A browser that objects: nothing of its events goes to this vendor. Global Privacy Control opts out of sale and sharing, and Do Not Track\n" \
    "# objects to tracking; a processor that works for you alone may be exempt: honour: []\n" \
    "honour: [gpc, dnt]\n" \
    "# requires: consent.analytics   # only events that say that it is given; plan.yaml, under consent:, names the property that says so\n" \
    "undeclared: hold                # hold: withheld, and listed by `bulkhead preview " name " --held`; drop: withheld\n"

static const char mixpanel_yaml[] = CONTRACT("mixpanel", "https://api-eu.mixpanel.com", "MIXPANEL_TOKEN");
static const char posthog_yaml[] = CONTRACT("posthog", "https://eu.i.posthog.com", "POSTHOG_TOKEN");
static const char segment_yaml[] =
    CONTRACT("segment", "https://api.segment.io # in the EU: https://events.eu1.segmentapis.com", "SEGMENT_WRITE_KEY");
static const char rudder_yaml[] =
    CONTRACT("rudder", "https://example.dataplane.rudderstack.com # your data plane", "RUDDER_WRITE_KEY");
static const char amplitude_yaml[] =
    CONTRACT("amplitude", "https://api.eu.amplitude.com # in the US: https://api2.amplitude.com", "AMPLITUDE_API_KEY");

static const char gitignore[] =
"# Data and keys stay out of git.\n"
"/data/\n"
"*.key\n"
"*.token\n"
".env\n";

/* clang-format on */

static const struct {
    const char *name;
    const char *text;
} files[] = {
    {"bulkhead.yaml", bulkhead_yaml},           {"plan.yaml", plan_yaml},
    {"vendors/mixpanel.yaml", mixpanel_yaml},   {"vendors/posthog.yaml", posthog_yaml},
    {"vendors/segment.yaml", segment_yaml},     {"vendors/rudder.yaml", rudder_yaml},
    {"vendors/amplitude.yaml", amplitude_yaml}, {".gitignore", gitignore},
};

const char *init_file_text(const char *name) {
    for (unsigned i = 0; i < BH_COUNT(files); i++) {
        if (strcmp(name, files[i].name) == 0) {
            return files[i].text;
        }
    }
    return NULL;
}
