package main

import (
	"context"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/kafka"
	"activityfeed/internal/rebuild"
	"activityfeed/notify"
)

// rebuildInboxes makes anew what notify keeps of the users, or of all. It has no push
// services: nothing is sent.
func rebuildInboxes(ctx context.Context, cfg rebuild.Config, notifyCfg notify.Config, brokers []string, client redis.UniversalClient, asked *askedUsers, con *console) (rebuild.Result, notify.RestoreCounts, error) {
	var none notify.RestoreCounts
	topics, err := kafka.NewScanner(brokers, con.log)
	if err != nil {
		return rebuild.Result{}, none, err
	}
	defer topics.Close()
	notifications, err := notify.New(notifyCfg, notify.Deps{Log: con.log, Redis: client})
	if err != nil {
		return rebuild.Result{}, none, err
	}
	restore := notifications.Restore(asked.users, rebuild.NewPace(cfg.Rate).Wait)
	result, err := rebuild.RunInboxes(ctx, cfg, rebuild.InboxDeps{Log: con.log, Topics: topics, Inboxes: askedInboxes{restore, asked}}, con.err)
	return result, restore.Counts(), err
}
