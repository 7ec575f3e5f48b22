package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"activityfeed/notify/push"
	"activityfeed/notify/push/apns"
	"activityfeed/notify/push/fcm"
	"activityfeed/notify/push/webpush"
)

// vapidFile is where the VAPID key is kept in the data folder.
const vapidFile = "vapid.pem"

// pushConfig are the push services that this process sends to: those that are set
// up.
type pushConfig struct {
	Webpush webpush.Config `embed:"" prefix:"webpush-"`
	FCM     fcm.Config     `embed:"" prefix:"fcm-"`
	APNs    apns.Config    `embed:"" prefix:"apns-"`
}

// check refuses settings of a push service that is not set up: whoever gives them
// means to push, and nothing would say that nothing is.
func (c pushConfig) check() error {
	var errs []error
	for _, setting := range []struct {
		flag  string
		given bool
		needs string
		there bool
	}{
		{"--push-webpush-key", c.Webpush.Key != "", "--push-webpush-subject", c.Webpush.Subject != ""},
		{"--push-webpush-key-file", c.Webpush.KeyFile != "", "--push-webpush-subject", c.Webpush.Subject != ""},
		{"--push-webpush-private-origins", len(c.Webpush.PrivateOrigins) > 0, "--push-webpush-subject", c.Webpush.Subject != ""},
		{"--push-apns-key-id", c.APNs.KeyID != "", "--push-apns-key-file", c.APNs.KeyFile != ""},
		{"--push-apns-team-id", c.APNs.TeamID != "", "--push-apns-key-file", c.APNs.KeyFile != ""},
		{"--push-apns-topic", c.APNs.Topic != "", "--push-apns-key-file", c.APNs.KeyFile != ""},
	} {
		if setting.given && !setting.there {
			errs = append(errs, fmt.Errorf("%s needs %s: without that nothing is pushed there", setting.flag, setting.needs))
		}
	}
	return errors.Join(errs...)
}

// pushers are the senders of what is configured, and what closes them.
type pushers struct {
	senders push.Senders

	// applicationServerKey is what web pages subscribe with; empty without Web Push.
	applicationServerKey string
	close                func() error
}

// newPushers makes the senders. Nothing is talked to; keys are read, and the VAPID
// key is made on the first start.
func newPushers(cfg pushConfig, dataDir string, log *slog.Logger) (pushers, error) {
	senders := push.Senders{}
	p := pushers{senders: senders}
	var closers []func()
	if cfg.Webpush.Subject != "" {
		if cfg.Webpush.KeyFile == "" {
			cfg.Webpush.KeyFile = filepath.Join(dataDir, vapidFile)
		}
		s, err := webpush.New(cfg.Webpush, webpush.Deps{Log: log})
		if err != nil {
			flag := "--push-webpush-key-file"
			if cfg.Webpush.Key != "" {
				flag = "--push-webpush-key"
			}
			return p, fmt.Errorf("%s: %w", flag, err)
		}
		senders[push.WebPush], p.applicationServerKey = s, s.PublicKey()
		closers = append(closers, s.Close)
	}
	if cfg.FCM.Credentials != "" {
		s, err := fcm.New(cfg.FCM, fcm.Deps{Log: log})
		if err != nil {
			return p, fmt.Errorf("--push-fcm-credentials: %w", err)
		}
		senders[push.FCM] = s
		closers = append(closers, s.Close)
	}
	if cfg.APNs.KeyFile != "" {
		s, err := apns.New(cfg.APNs, apns.Deps{Log: log})
		if err != nil {
			return p, fmt.Errorf("--push-apns-key-file: %w", err)
		}
		senders[push.APNs] = s
		closers = append(closers, s.Close)
	}
	p.close = func() error {
		for _, c := range closers {
			c()
		}
		return nil
	}
	return p, nil
}
