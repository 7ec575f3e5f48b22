// Package apns sends through Apple's push service, HTTP/2 with a provider token.
//
//	answer                                          outcome
//	200                                             OK
//	410 Unregistered, ExpiredToken                  Prune if it died after it was registered, else Retry
//	400 BadDeviceToken, DeviceTokenNotForTopic      Suspect: Prune, or Pause of app and environment if it is so for all
//	403 Expired-, Invalid-, MissingProviderToken    sent again at once with a new token if ours is 20 minutes old, then Pause
//	403 otherwise                                   Pause: the key is not good for this
//	400 TopicDisallowed, BadTopic, MissingTopic     Pause of app and environment
//	404, 405, 3xx                                   Pause: the address is wrong
//	413                                             sent again at once, smaller; then Drop
//	429 TooManyRequests                             Retry, the device
//	429 TooManyProviderTokenUpdates                 Pause, and the token is kept
//	400 otherwise                                   Drop: our mistake
//	5xx, timeout, GOAWAY, broken connection         Retry, counts for the breaker of app and environment
//
// The status decides before the body is read: a proxy's page is no JSON.
//
// # Provider tokens
//
// Apple wants one token per key for all processes, 20 to 60 minutes old. A token is
// made for a half-hour of the clock and its signature is deterministic, so all
// processes of a key make the same one and need not talk to each other.
//
// Source: developer.apple.com/documentation/usernotifications, "Handling
// notification responses from APNs" and "Establishing a token-based connection to
// APNs".
package apns
