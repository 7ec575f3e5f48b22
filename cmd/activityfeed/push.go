package main

import (
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
			return p, fmt.Errorf("web push: %w", err)
		}
		senders[push.WebPush], p.applicationServerKey = s, s.PublicKey()
		closers = append(closers, s.Close)
	}
	if cfg.FCM.Credentials != "" {
		s, err := fcm.New(cfg.FCM, fcm.Deps{Log: log})
		if err != nil {
			return p, err
		}
		senders[push.FCM] = s
		closers = append(closers, s.Close)
	}
	if cfg.APNs.KeyFile != "" {
		s, err := apns.New(cfg.APNs, apns.Deps{Log: log})
		if err != nil {
			return p, err
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
