// Package fcm sends through Firebase Cloud Messaging, HTTP v1, with a service
// account of the operator's project.
//
//	answer                                outcome
//	200                                   OK
//	404 UNREGISTERED                      Prune
//	404 otherwise                         Pause: the project or the address is wrong
//	403 SENDER_ID_MISMATCH                Suspect: Prune, or Pause if it is so for all
//	403 otherwise                         Pause: the service account may not send
//	400 INVALID_ARGUMENT of the token     Suspect: Prune, or Pause if it is so for all
//	400 of another field                  Drop: our mistake
//	413                                   sent again at once, smaller; then Drop
//	429 QUOTA_EXCEEDED                    Retry after Retry-After or 60 s, the project; of a device: the device
//	401 THIRD_PARTY_AUTH_ERROR            Pause of the iOS part: the APNs key in Firebase is wrong
//	401 otherwise                         sent again at once with a new access token, then Pause
//	5xx, timeout, broken connection       Retry, counts for the provider's breaker
//
// Before that, what is more than Config.PerMinute is a Retry for the project when
// there is room again, and FCM is not asked.
//
// The token service's answers: 4xx Pause, the rest Retry.
//
// A device is named by a registration token or by a Firebase installation id, which
// replaces it since 2026: Target.TokenKind.
//
// Sources: firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode,
// /docs/cloud-messaging/error-codes, /scale-fcm, /manage-tokens.
package fcm
