package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WithOptions returns the configuration with further options of the client.
func (c SubscriberConfig) WithOptions(opts ...kgo.Opt) SubscriberConfig {
	c.options = append(c.options[:len(c.options):len(c.options)], opts...)
	return c
}

// WithOptions returns the configuration with further options of the client.
func (c PublisherConfig) WithOptions(opts ...kgo.Opt) PublisherConfig {
	c.options = append(c.options[:len(c.options):len(c.options)], opts...)
	return c
}

// WithOptions returns the configuration with further options of the client.
func (c TailConfig) WithOptions(opts ...kgo.Opt) TailConfig {
	c.options = append(c.options[:len(c.options):len(c.options)], opts...)
	return c
}

// Ownership identifies the present ownership of a partition; nil if there is none.
func (s *Subscriber) Ownership(id int32) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscriptions {
		sub.mu.Lock()
		p := sub.window.parts[id]
		sub.mu.Unlock()
		if p != nil {
			return p
		}
	}
	return nil
}

// AdminOf returns an Admin that uses a client.
func AdminOf(client *kgo.Client) *Admin { return &Admin{client: client, adm: kadm.NewClient(client)} }

// Committed returns what a group has committed of a topic.
func (a *Admin) Committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	fetched, err := a.adm.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	committed := make(map[int32]int64)
	for partition, o := range fetched[topic] {
		if o.At >= 0 {
			committed[partition] = o.At
		}
	}
	return committed, nil
}
