package device

import (
	"cmp"
	"context"
	_ "embed"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	"activityfeed/internal/redispipe"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

var (
	//go:embed lua/register.lua
	registerSource string
	//go:embed lua/remove.lua
	removeSource string
	//go:embed lua/own.lua
	ownSource string
	//go:embed lua/record.lua
	recordSource string

	registerScript = redispipe.NewScript(registerSource)
	removeScript   = redispipe.NewScript(removeSource)
	ownScript      = redispipe.NewScript(ownSource)
	recordScript   = redispipe.NewScript(recordSource)
)

// versionSize is the length of a version in what is stored.
const versionSize = 19

// Store keeps devices in Redis. It is safe for concurrent use.
type Store struct {
	pipe *redispipe.Pipe
}

// New returns a Store; timeout bounds one call to Redis. The client must be opened
// with ContextTimeoutEnabled.
func New(client redis.UniversalClient, timeout time.Duration) *Store {
	return &Store{redispipe.New(client, timeout, registerScript, removeScript, ownScript, recordScript)}
}

// Key is the HASH of a user's devices. Whether it is there tells whether a user has
// any.
func Key(user string) string { return "notify:devices:{" + user + "}" }

// outcomesKey is the HASH of what came of the last push to each device.
func outcomesKey(user string) string { return "notify:outcomes:{" + user + "}" }

// ownerKey is the STRING of whose a device is.
func ownerKey(device string) string { return "notify:owner:{" + device + "}" }

// Register takes a registration into the projection, and the device from who had it
// before. It may come again, and late: what is newer stays.
func (s *Store) Register(ctx context.Context, r *pb.DeviceRegistered, version event.ID) error {
	value, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	// The owner first: from then on nothing is sent for the one before.
	before, noted, err := s.own(ctx, r.GetDeviceId(), r.GetUserId(), "", version)
	if err != nil || !noted {
		return err // somebody registered it later
	}
	cmds := []redis.Cmder{
		registerScript.Int(ctx, []string{Key(r.GetUserId()), outcomesKey(r.GetUserId())}, r.GetDeviceId(), version.String(), value),
	}
	if before != "" && before != r.GetUserId() {
		cmds = append(cmds, removeScript.Int(ctx, []string{Key(before), outcomesKey(before)}, r.GetDeviceId(), version.String()))
	}
	return redisfault.Of(s.pipe.Exec(ctx, cmds...), "register device %s of %s", r.GetDeviceId(), r.GetUserId())
}

// Remove takes a device out, if its registration is of at most that version, and
// says whether it was there.
func (s *Store) Remove(ctx context.Context, user, device string, upTo event.ID) (bool, error) {
	removed := removeScript.Int(ctx, []string{Key(user), outcomesKey(user)}, device, upTo.String())
	if err := s.pipe.Exec(ctx, removed); err != nil {
		return false, redisfault.Of(err, "remove device %s of %s", device, user)
	}
	if removed.Val() == 0 {
		return false, nil
	}
	_, _, err := s.own(ctx, device, "", user, upTo)
	return true, err
}

// own notes the owner of a device, or with no user forgets it if it is the
// given owner's.
func (s *Store) own(ctx context.Context, device, user, owner string, version event.ID) (before string, noted bool, err error) {
	cmd := ownScript.Slice(ctx, []string{ownerKey(device)}, version.String(), user, owner)
	if err := s.pipe.Exec(ctx, cmd); err != nil {
		return "", false, redisfault.Of(err, "note the owner of device %s", device)
	}
	if answer := cmd.Val(); len(answer) == 2 {
		before, _ = answer[0].(string)
		noted = answer[1] == int64(1)
	}
	return before, noted, nil
}

// List returns the devices of each user, last registered first.
func (s *Store) List(ctx context.Context, users ...string) ([][]Device, error) {
	cmds := make([]redis.Cmder, 0, 2*len(users))
	for _, user := range users {
		cmds = append(cmds, redis.NewMapStringStringCmd(ctx, "hgetall", Key(user)),
			redis.NewMapStringStringCmd(ctx, "hgetall", outcomesKey(user)))
	}
	if err := s.pipe.Exec(ctx, cmds...); err != nil {
		return nil, redisfault.Of(err, "list the devices of %d users", len(users))
	}
	hash := func(i int) map[string]string { return cmds[i].(*redis.MapStringStringCmd).Val() } //nolint:forcetypeassert // made above
	all := make([][]Device, len(users))
	for i := range users {
		for id, value := range hash(2 * i) {
			if d, ok := decode(value, hash(2*i + 1)[id]); ok {
				all[i] = append(all[i], d)
			}
		}
		slices.SortFunc(all[i], func(a, b Device) int { return cmp.Compare(b.Version, a.Version) })
	}
	return all, nil
}

// Ref names a device of a user.
type Ref struct{ User, Device string }

// Get returns devices in the order asked for; one that is not there, or that is
// another user's now, has no ID.
func (s *Store) Get(ctx context.Context, refs ...Ref) ([]Device, error) {
	cmds := make([]redis.Cmder, 0, 3*len(refs))
	for _, r := range refs {
		cmds = append(cmds,
			redis.NewStringCmd(ctx, "hget", Key(r.User), r.Device),
			redis.NewStringCmd(ctx, "hget", outcomesKey(r.User), r.Device),
			redis.NewStringCmd(ctx, "get", ownerKey(r.Device)))
	}
	if err := s.pipe.Exec(ctx, cmds...); err != nil {
		return nil, redisfault.Of(err, "read %d devices", len(refs))
	}
	text := func(i int) string { return cmds[i].(*redis.StringCmd).Val() } //nolint:forcetypeassert // made above
	devices := make([]Device, len(refs))
	for i, r := range refs {
		d, ok := decode(text(3*i), text(3*i+1))
		if owner := text(3*i + 2); ok && len(owner) > versionSize && owner[versionSize:] == r.User {
			devices[i] = d
		}
	}
	return devices, nil
}

// Record notes what came of a push, and returns the device's strikes.
func (s *Store) Record(ctx context.Context, r Ref, o push.Outcome, at time.Time) (strikes int, err error) {
	value, err := proto.Marshal(Outcome(o, at))
	if err != nil {
		return 0, err
	}
	strike := ""
	switch {
	case o.Action == push.OK:
		strike = "0"
	case o.Strike:
		strike = "+"
	}
	cmd := recordScript.Int(ctx, []string{Key(r.User), outcomesKey(r.User)}, r.Device, value, strike)
	if err := s.pipe.Exec(ctx, cmd); err != nil {
		return 0, redisfault.Of(err, "note the outcome of a push to %s", r.Device)
	}
	return int(cmd.Val()), nil
}

func decode(value, outcome string) (Device, bool) {
	if len(value) < versionSize {
		return Device{}, false
	}
	version, err := event.ParseID(value[:versionSize])
	var r pb.DeviceRegistered
	if err != nil || proto.Unmarshal([]byte(value[versionSize:]), &r) != nil {
		return Device{}, false
	}
	d := Device{
		ID: r.GetDeviceId(), User: r.GetUserId(), Label: r.GetLabel(), Version: version,
		Target: Target(r.GetTarget(), r.GetRegisterTime().AsTime()),
		Silent: r.GetTarget().GetSilent() || r.GetTarget().GetProvider() != pb.PushProvider_PUSH_PROVIDER_WEB_PUSH,
	}
	if outcome != "" {
		var last pb.PushResult
		if proto.Unmarshal([]byte(outcome[1:]), &last) == nil {
			d.Last, d.Strikes = &last, int(outcome[0]-'0')
		}
	}
	return d, true
}
