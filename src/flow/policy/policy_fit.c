/*
 * Which form fits which class, so that `contract check` can refuse a rule that would do nothing, or something else than it says.
 *
 *   raw        every class that is not never
 *   drop       every class
 *   pseudonym  identifiers; user names, e-mail addresses, phone numbers, organisations
 *   mask       e-mail, phone, names, user names, postal codes
 *   redact     all text that is no identifier: an identifier redacted would make all people one
 *   coarse     country, region: where someone is · family, major: devices · path: URLs · /24, /48: IP addresses
 *              hour, day, year: dates of birth (times of events follow `time:`)
 */
#include "base/check.h"
#include "flow/policy/policy_int.h"

/* `forms` is a bit set of form numbers; a class takes the row of its nearest ancestor that has one. */
struct fit_row {
    uint16_t class_id;
    uint16_t forms;
    uint16_t levels;
};

#define F(form)  (1U << FORM_##form)
#define L(level) (1U << LEVEL_##level)

static const struct fit_row rows[] = {
    {CLASS_USER, F(REDACT), 0},
    {CLASS_SYSTEM, 0, 0},
    {CLASS_NAME, F(REDACT) | F(MASK), 0},
    {CLASS_ACCOUNT, F(REDACT) | F(MASK) | F(PSEUDONYM), 0},
    {CLASS_WORKPLACE, F(PSEUDONYM), 0},
    {CLASS_EMAIL, F(REDACT) | F(MASK) | F(PSEUDONYM), 0},
    {CLASS_PHONE, F(REDACT) | F(MASK) | F(PSEUDONYM), 0},
    {CLASS_CONTACT_URL, F(REDACT) | F(COARSE), L(PATH)},
    {CLASS_CONTACT_ORGANIZATION, F(REDACT) | F(PSEUDONYM), 0},
    {CLASS_ADDRESS, F(REDACT) | F(COARSE), L(COUNTRY) | L(REGION)},
    {CLASS_POSTAL_CODE, F(REDACT) | F(MASK), 0},
    {CLASS_UNIQUE_ID, F(PSEUDONYM), 0},
    {CLASS_DEVICE, F(COARSE), L(FAMILY) | L(MAJOR)},
    {CLASS_DEVICE_ID, F(PSEUDONYM), 0},
    {CLASS_COOKIE_ID, F(PSEUDONYM), 0},
    {CLASS_IP_ADDRESS, F(REDACT) | F(COARSE), L(NET)},
    {CLASS_LOCATION, F(REDACT) | F(COARSE), L(COUNTRY) | L(REGION)},
    {CLASS_LOCATION_PRECISE, 0, 0},
    {CLASS_BEHAVIOR, 0, 0},
    {CLASS_BROWSING_HISTORY, F(REDACT) | F(COARSE), L(PATH)},
    {CLASS_SEARCH_HISTORY, F(REDACT), 0},
    {CLASS_TELEMETRY, 0, 0},
    {CLASS_DATE_OF_BIRTH, F(COARSE), L(DAY) | L(YEAR)},
    {CLASS_PRIVACY_PREFERENCES, 0, 0},
};

#undef F
#undef L

static const struct fit_row *row_of(uint16_t class_id) {
    for (uint16_t c = class_id; c != CLASS_NONE; c = class_parent(c)) {
        for (size_t i = 0; i < BH_COUNT(rows); i++) {
            if (rows[i].class_id == c) {
                return &rows[i];
            }
        }
    }
    return NULL;
}

bool form_fits_class(struct form form, uint16_t class_id) {
    if (form.id == FORM_DROP) {
        return true;
    }
    const struct fit_row *row = row_of(class_id);
    if (row == NULL || class_is_never(class_id)) {
        return false;
    }
    if (form.id == FORM_RAW) {
        return true;
    }
    if ((row->forms >> form.id & 1U) == 0) {
        return false;
    }
    return form.id != FORM_COARSE || (row->levels >> form.level & 1U) != 0;
}

bool form_fits_rule(struct form form, uint16_t class_id) {
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        bool inherits = all[i] == class_id || (class_is_within(all[i], class_id) &&
                                               (class_flags(all[i]) & CLASS_OWN_LINE) == 0);
        if (inherits && form_fits_class(form, all[i])) {
            return true;
        }
    }
    return false;
}

void form_put(struct form form, struct buf *out) {
    const char *name = form_name(form);
    const char *colon = strchr(name, ':');
    if (colon == NULL) {
        buf_put_str(out, name);
        return;
    }
    buf_put_str(out, "coarse ");
    buf_put_str(out, form.level == LEVEL_NET ? "/24" : colon + 1);
}

void form_list_fitting(uint16_t class_id, struct buf *out) {
    static const struct form all[] = {
        {FORM_PSEUDONYM, LEVEL_NONE}, {FORM_COARSE, LEVEL_COUNTRY}, {FORM_COARSE, LEVEL_REGION},
        {FORM_COARSE, LEVEL_FAMILY},  {FORM_COARSE, LEVEL_MAJOR},   {FORM_COARSE, LEVEL_PATH},
        {FORM_COARSE, LEVEL_NET},     {FORM_COARSE, LEVEL_DAY},     {FORM_COARSE, LEVEL_YEAR},
        {FORM_MASK, LEVEL_NONE},      {FORM_REDACT, LEVEL_NONE},    {FORM_RAW, LEVEL_NONE},
    };
    bool any = false;
    for (size_t i = 0; i < BH_COUNT(all); i++) {
        if (form_fits_class(all[i], class_id)) {
            buf_put_str(out, any ? ", " : "");
            form_put(all[i], out);
            any = true;
        }
    }
    buf_put_str(out, any ? " or drop" : "drop");
}

int class_read(const struct yaml_node *node, uint16_t *ret_class, struct err *err) {
    struct span word = yaml_text(node);
    uint16_t class_id = class_by_name(word);
    if (class_id != CLASS_NONE) {
        *ret_class = class_id;
        return 0;
    }
    const char *near = class_nearest(word);
    int shown = (int)(word.n < 80 ? word.n : 80);
    if (near != NULL) {
        return yaml_error(err, node, "unknown class '%.*s'; did you mean '%s'?", shown,
                          (const char *)word.p, near);
    }
    return yaml_error(
        err, node, "unknown class '%.*s'; expected a Fideslang data category such as user.device",
        shown, word.p != NULL ? (const char *)word.p : "");
}
