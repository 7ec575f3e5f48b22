package notify

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const (
	// subscribeBatch is how many channels one SUBSCRIBE names.
	subscribeBatch = 1000
	// silence is how long the connection to Redis may say nothing before it is
	// asked for a sign of life, and again before it counts as dead.
	silence = 5 * time.Second
	// watchedFor is how many refreshes the mark of a watched inbox lives.
	watchedFor = 4
)

// session lives as long as one connection to Redis. It subscribes all that is
// watched and with that has all of it read, so whatever ends a session is healed
// by the next one.
func (h *hub) session(ctx context.Context) error {
	h.metrics.connects.Inc()
	ps := h.store.redis.Subscribe(ctx) // connects at its first use
	h.mu.Lock()
	for user, t := range h.topics {
		t.live = false
		h.unsettle(user)
	}
	h.mu.Unlock()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		return ps.Close() // a blocked receive has no other end
	})
	group.Go(func() error { return h.receive(ctx, ps) })
	group.Go(func() error { return h.subscribe(ctx, ps) })
	return group.Wait()
}

// receive notes which inboxes have changed.
func (h *hub) receive(ctx context.Context, ps *redis.PubSub) error {
	asked := false
	for {
		received, err := ps.ReceiveTimeout(ctx, silence)
		var timeout net.Error
		switch {
		case err == nil:
			asked = false
		case ctx.Err() == nil && !asked && errors.As(err, &timeout) && timeout.Timeout():
			asked = true
			if err := h.ping(ctx, ps); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		switch m := received.(type) {
		case *redis.Message:
			h.changed(m.Channel, false)
		case *redis.Subscription:
			if m.Kind == "subscribe" {
				h.changed(m.Channel, true)
			}
		}
	}
}

func (h *hub) ping(ctx context.Context, ps *redis.PubSub) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.RedisTimeout)
	defer cancel()
	return ps.Ping(ctx)
}

// changed has an inbox read. confirmed says that its channel is subscribed from
// now on.
func (h *hub) changed(channel string, confirmed bool) {
	user := watchedUser(channel)
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[user]; t != nil {
		t.live = t.live || confirmed
		h.markStale(user)
	}
}

// subscribe keeps the subscriptions of a session as the watchers come and go, and
// the marks by which writers know that somebody listens.
func (h *hub) subscribe(ctx context.Context, ps *redis.PubSub) error {
	refresh := time.NewTicker(h.cfg.WatchRefresh)
	defer refresh.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.resubscribe:
			err = h.settle(ctx, ps)
		case <-refresh.C:
			err = h.mark(ctx, h.watched())
		}
		if err != nil {
			return err
		}
	}
}

// settle subscribes what is watched and unsubscribes what is not.
func (h *hub) settle(ctx context.Context, ps *redis.PubSub) error {
	var come, gone []string
	h.mu.Lock()
	for user := range h.unsettled {
		if h.topics[user] != nil {
			come = append(come, user)
		} else {
			gone = append(gone, watchedKey(user))
		}
	}
	clear(h.unsettled)
	h.mu.Unlock()

	// The mark comes before the subscription, and the read after it: a row is
	// either there to be read, or its writer has seen the mark.
	if err := h.mark(ctx, come); err != nil {
		return err
	}
	for i, user := range come {
		come[i] = watchedKey(user)
	}
	if err := h.inBatches(ctx, come, ps.Subscribe); err != nil {
		return err
	}
	return h.inBatches(ctx, gone, ps.Unsubscribe)
}

func (h *hub) inBatches(ctx context.Context, channels []string, do func(context.Context, ...string) error) error {
	for batch := range slices.Chunk(channels, subscribeBatch) {
		ctx, cancel := context.WithTimeout(ctx, h.cfg.RedisTimeout)
		err := do(ctx, batch...)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hub) mark(ctx context.Context, users []string) error {
	return h.store.watched(ctx, users, watchedFor*h.cfg.WatchRefresh)
}

func (h *hub) watched() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.topics))
}
