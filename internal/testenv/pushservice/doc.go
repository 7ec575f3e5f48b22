// Package pushservice runs push services on this machine for tests and
// benchmarks: Web Push, FCM and APNs at the level of their protocols. They are as
// strict as the real ones: they check the provider's token with another library
// than ours, decrypt what is encrypted, and answer by a script.
//
//	service, err := pushservice.StartWebPush(pushservice.Options{})
//	service.Script(func(p pushservice.Push) *pushservice.Reply { ... })
//	device, err := service.Subscribe()
//
// A service can be closed and started again on the same address with the same keys
// (Options.Addr, Restart), as a provider goes down and comes back.
package pushservice
