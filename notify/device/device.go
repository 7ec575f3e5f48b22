package device

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

// maxStrikes is how many pushes in a row may be refused before a device is left alone.
const maxStrikes = 3

// Device is one registration.
type Device struct {
	ID, User, Label string
	// Version is the id of the fact that registered it.
	Version event.ID
	Target  push.Target
	// Silent says that the app handles pushes that show nothing.
	Silent bool
	// Last is what came of the last push, nil before the first.
	Last *pb.PushResult
	// Strikes are the pushes in a row that were refused.
	Strikes int
}

// Suspended says that nothing is sent to it until it registers again.
func (d Device) Suspended() bool { return d.Strikes >= maxStrikes }

// ID returns the device id of a target: 22 letters, no secret.
func ID(t push.Target) string {
	sum := sha256.Sum256([]byte(string(t.Provider) + "\x00" + t.Address()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

var (
	providers = map[pb.PushProvider]push.Provider{
		pb.PushProvider_PUSH_PROVIDER_WEB_PUSH: push.WebPush,
		pb.PushProvider_PUSH_PROVIDER_FCM:      push.FCM,
		pb.PushProvider_PUSH_PROVIDER_APNS:     push.APNs,
	}
	tokenKinds = map[pb.FcmTokenKind]push.TokenKind{
		pb.FcmTokenKind_FCM_TOKEN_KIND_TOKEN: push.FCMToken,
		pb.FcmTokenKind_FCM_TOKEN_KIND_FID:   push.FCMFID,
	}
)

// Target returns where an app is reached, as its push service wants to know it.
// The zero time means that it is not registered yet.
func Target(t *pb.PushTarget, registered time.Time) push.Target {
	target := push.Target{
		Provider: providers[t.GetProvider()], Endpoint: t.GetEndpoint(), P256dh: t.GetP256Dh(), Auth: t.GetAuth(),
		Token: t.GetToken(), TokenKind: tokenKinds[t.GetTokenKind()], App: t.GetApp(), Registered: registered,
	}
	if t.GetSandbox() {
		target.Environment = push.Sandbox
	}
	return target
}

// Message returns what the API shows of a device: no address.
func (d Device) Message() *pb.Device {
	m := &pb.Device{
		DeviceId: d.ID, Label: d.Label, RegisterTime: timestamppb.New(d.Target.Registered),
		LastOutcome: d.Last, Suspended: d.Suspended(),
	}
	for name, provider := range providers {
		if provider == d.Target.Provider {
			m.Provider = name
		}
	}
	return m
}

// Outcome returns what the API shows of an outcome.
func Outcome(o push.Outcome, at time.Time) *pb.PushResult {
	return &pb.PushResult{
		Time: timestamppb.New(at), Action: o.Action.String(), Reason: string(o.Reason), Status: int32(o.Status), Code: o.Code,
	}
}
