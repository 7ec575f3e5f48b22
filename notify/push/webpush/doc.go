// Package webpush sends to browsers and to UnifiedPush distributors: RFC 8030
// (delivery), RFC 8291 (encryption) and RFC 8292 (VAPID), with nobody's account or
// server between.
//
//	answer                              outcome
//	2xx                                 OK; the answer's TTL, if it is a lower one
//	404, 410                            Prune
//	413                                 sent again at once, title alone; then Drop
//	429, 406 (WNS)                      Retry after Retry-After, the device; three devices: the origin
//	401, 403, 400 Unauthorized...       sent again at once with a new token; then Suspect:
//	                                    Pause of the origin, or Drop with a strike
//	other 4xx                           Drop with a strike
//	3xx                                 Drop; redirects are not followed
//	5xx, timeout, broken connection     Retry, counts for the origin's breaker
//	an address that is not public       Drop with a strike
//	(a silent message for Apple)        Drop, not sent: Safari would end the subscription
//
// Sources: the RFCs; mozilla-services.github.io/autopush-rs/errors.html;
// unifiedpush.org/developers/spec/server; MicrosoftDocs/windows-dev-docs#4166 (406).
//
// # What an endpoint may be
//
// Endpoints come from clients, and we connect to them: https only, no addresses in
// place of names, and the address that a name resolves to is checked when the
// connection is made. No redirects, no proxy. Config.PrivateOrigins lifts this for
// origins that the operator names.
package webpush
