/*
 * What leaves of an event, as requests' items: as policy wrote it where source and vendor speak the same protocol, else in the vendor's words.
 *
 * An event may become several items, of one endpoint of the vendor or of more. Those of one endpoint are one entry of the window, its parts set
 * apart by a byte that JSON cannot hold: they are sent, accepted, refused and halved together.
 */
#include "base/check.h"
#include "flow/deliver/deliver_int.h"
#include "protocol/translate.h"

/* One for each protocol of a source; made when first needed, and anew when the vendor speaks another one. */
static struct translator *translator_of(struct courier *courier,
                                        const struct protocol_ops *source) {
    check(source->id < PROTOCOL_LIMIT);
    struct translator **at = &courier->translators[source->id];
    if (*at != NULL && translator_target(*at) != courier->rules->ops) {
        translator_free(*at);
        *at = NULL;
    }
    if (*at == NULL && translator_new(source, courier->rules->ops, at) != 0) {
        *at = NULL;
    }
    return *at;
}

void courier_free_translators(struct courier *courier) {
    for (unsigned i = 0; i < PROTOCOL_LIMIT; i++) {
        translator_free(courier->translators[i]);
        courier->translators[i] = NULL;
    }
}

/* Items of one endpoint stand side by side, so a span holds them. */
static void group(const struct protocol_ops *ops, const struct translated *result,
                  const struct buf *items, struct outgoing *ret) {
    for (unsigned i = 0; i < result->item_count; i++) {
        const struct model_item *item = &result->items[i];
        uint8_t endpoint = (uint8_t)ops->endpoint((enum event_kind)item->kind);
        struct outgoing_part *last = ret->count != 0 ? &ret->list[ret->count - 1] : NULL;
        if (last != NULL && last->endpoint == endpoint) {
            last->json.n = (size_t)(items->p + item->at + item->size - last->json.p);
            last->parts++;
            continue;
        }
        check(ret->count < PROTOCOL_ENDPOINTS_MAX);
        ret->list[ret->count++] =
            (struct outgoing_part){span_of(items->p + item->at, item->size), endpoint, 1};
    }
}

/* In the place of policy's item, which is no longer needed. */
static void move_down(struct buf *items, size_t from, size_t to, struct outgoing *out) {
    memmove(items->p + to, items->p + from, items->n - from);
    items->n -= from - to;
    for (unsigned i = 0; i < out->count; i++) {
        out->list[i].json.p -= from - to;
    }
}

void courier_outgoing(struct courier *courier, struct window *window,
                      const struct policy_input *input, struct verdict *verdict,
                      struct outgoing *ret) {
    const struct protocol_ops *ops = courier->rules->ops;
    *ret = (struct outgoing){0};
    if (!verdict->sends) {
        return;
    }
    if (input->protocol == ops) {
        uint8_t endpoint = (uint8_t)ops->endpoint((enum event_kind)input->event->kind);
        ret->count = 1;
        ret->list[0] = (struct outgoing_part){verdict->json, endpoint, 1};
        return;
    }
    struct translator *translator = translator_of(courier, input->protocol);
    struct buf *items = &window->items;
    struct translated result;
    size_t to = (size_t)(verdict->json.p - items->p);
    size_t from = items->n;
    if (translator == NULL) {
        verdict->sends = false;
        verdict->reason = REASON_NOT_EXPRESSIBLE;
        return;
    }
    policy_translate(courier->policy, input, translator, courier->tokens, items, verdict, &result,
                     NULL, NULL);
    if (verdict->sends) {
        group(ops, &result, items, ret);
        move_down(items, from, to, ret);
    }
}

bool outgoing_next(struct span *rest, struct span *ret_part) {
    if (rest->n == 0) {
        return false;
    }
    size_t n = span_find_byte(*rest, MODEL_SEPARATOR);
    n = n == SIZE_MAX ? rest->n : n;
    *ret_part = span_cut(*rest, 0, n);
    *rest = span_from(*rest, n < rest->n ? n + 1 : n);
    return true;
}
