package notify

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/notify/device"
	"activityfeed/notify/prefs"
	pb "activityfeed/proto/activityfeed/v1"
)

// maxDevices is how many devices a user has; the longest unregistered ones make
// room. A browser that subscribes anew at each visit stays harmless.
const maxDevices = 20

// RegisterDevice implements pb.NotificationServiceServer: the fact goes to the log,
// then into the projection at once, so that the next call knows it.
func (s *service) RegisterDevice(ctx context.Context, req *pb.RegisterDeviceRequest) (*pb.RegisterDeviceResponse, error) {
	now := s.store.now()
	target := device.Target(req.GetTarget(), now)
	if err := s.senders.Check(target); err != nil {
		return nil, inTarget(err)
	}
	fact := &pb.DeviceRegistered{
		UserId: req.GetUserId(), DeviceId: device.ID(target), Target: req.GetTarget(), Label: req.GetLabel(),
		RegisterTime: timestamppb.New(now),
	}
	id, err := s.facts.must(ctx, fact)
	if err != nil {
		return nil, err
	}
	if err := s.devices.Register(ctx, fact, id); err != nil {
		return nil, err
	}
	if err := s.makeRoom(ctx, req, fact.GetDeviceId()); err != nil {
		return nil, err
	}
	return &pb.RegisterDeviceResponse{DeviceId: fact.GetDeviceId()}, nil
}

// makeRoom removes what a registration replaces.
func (s *service) makeRoom(ctx context.Context, req *pb.RegisterDeviceRequest, registered string) error {
	devices, err := s.devices.List(ctx, req.GetUserId())
	if err != nil {
		return err
	}
	for i, d := range devices[0] { // last registered first
		replaced := d.ID == req.GetPreviousDeviceId() && d.ID != registered
		if !replaced && i < maxDevices {
			continue
		}
		if err := s.remove(ctx, d.User, d.ID, d.Version); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a device out of the projection if it still is that registration, and
// then writes that down.
func (s *service) remove(ctx context.Context, user, id string, upTo event.ID) error {
	removed, err := s.devices.Remove(ctx, user, id, upTo)
	if err != nil || !removed {
		return err
	}
	_, err = s.facts.must(ctx, &pb.DeviceRemoved{UserId: user, DeviceId: id})
	return err
}

// inTarget names the field of the request that a fault of a target is about.
func inTarget(err error) error {
	f := fault.Of(err)
	if f == nil || f.Kind != fault.InvalidArgument || strings.HasPrefix(f.Field, "target.") {
		return err
	}
	return fault.Invalid("target."+f.Field, "%s", f.Message)
}

// ListDevices implements pb.NotificationServiceServer.
func (s *service) ListDevices(ctx context.Context, req *pb.ListDevicesRequest) (*pb.ListDevicesResponse, error) {
	devices, err := s.devices.List(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	resp := &pb.ListDevicesResponse{WebPushPublicKey: s.webPushKey}
	for _, d := range devices[0] {
		resp.Devices = append(resp.Devices, d.Message())
	}
	return resp, nil
}

// RemoveDevice implements pb.NotificationServiceServer.
func (s *service) RemoveDevice(ctx context.Context, req *pb.RemoveDeviceRequest) (*pb.RemoveDeviceResponse, error) {
	if err := s.remove(ctx, req.GetUserId(), req.GetDeviceId(), maxID); err != nil {
		return nil, err
	}
	return &pb.RemoveDeviceResponse{}, nil
}

// SendTestPush implements pb.NotificationServiceServer.
func (s *service) SendTestPush(ctx context.Context, req *pb.SendTestPushRequest) (*pb.SendTestPushResponse, error) {
	devices, err := s.devices.Get(ctx, device.Ref{User: req.GetUserId(), Device: req.GetDeviceId()})
	if err != nil {
		return nil, err
	}
	if devices[0].ID == "" {
		return nil, fault.Missing("%s has no such device", req.GetUserId())
	}
	out, err := s.pushes.Test(ctx, devices[0])
	if err != nil {
		return nil, err
	}
	return &pb.SendTestPushResponse{Outcome: device.Outcome(out, s.store.now())}, nil
}

// GetNotificationPreferences implements pb.NotificationServiceServer.
func (s *service) GetNotificationPreferences(
	ctx context.Context, req *pb.GetNotificationPreferencesRequest,
) (*pb.GetNotificationPreferencesResponse, error) {
	all, err := s.store.preferences(ctx, []string{req.GetUserId()})
	if err != nil {
		return nil, err
	}
	p := all[0]
	if p == nil {
		p = &pb.NotificationPreferences{}
	}
	return &pb.GetNotificationPreferencesResponse{Preferences: p}, nil
}

// SetNotificationPreferences implements pb.NotificationServiceServer.
func (s *service) SetNotificationPreferences(
	ctx context.Context, req *pb.SetNotificationPreferencesRequest,
) (*pb.SetNotificationPreferencesResponse, error) {
	if err := prefs.Validate(req.GetPreferences()); err != nil {
		return nil, err
	}
	fact := &pb.PreferencesSet{UserId: req.GetUserId(), Preferences: req.GetPreferences()}
	id, err := s.facts.must(ctx, fact)
	if err != nil {
		return nil, err
	}
	if err := s.store.prefer(ctx, fact, id); err != nil {
		return nil, err
	}
	return &pb.SetNotificationPreferencesResponse{}, nil
}
