package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/kafka"
	"activityfeed/internal/rebuild"
	"activityfeed/notify"
)

// rebuildInboxes makes anew what notify keeps of the users, or of all. It has no push
// services: nothing is sent.
func rebuildInboxes(ctx context.Context, cfg rebuild.Config, notifyCfg notify.Config, brokers []string, client redis.UniversalClient, users []string, con *console) (rebuild.Result, notify.RestoreCounts, error) {
	var none notify.RestoreCounts
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		return rebuild.Result{}, none, err
	}
	defer admin.Close()
	notifications, err := notify.New(notifyCfg, notify.Deps{Log: con.log, Redis: client})
	if err != nil {
		return rebuild.Result{}, none, err
	}
	restore := notifications.Restore(users, rebuild.NewPace(cfg.Rate).Wait)
	result, err := rebuild.RunInboxes(ctx, cfg, rebuild.InboxDeps{
		Log:  con.log,
		Ends: admin.EndOffsets,
		Scan: func(ctx context.Context, topic string, partition int32, begin, end int64, fn func(*message.Message) error) error {
			return kafka.Scan{Brokers: brokers, Topic: topic, Partition: partition, Begin: begin, End: end}.Run(ctx, con.log, fn)
		},
		Inboxes: restore,
	}, con.err)
	return result, restore.Counts(), err
}
