package kafka

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// hand is a goroutine that waits for one message at a time to settle. Hands are
// kept: goroutines made for each message grow their stacks each time, and would
// all wait on one channel for the end; that took a fifth of the time of a message.
type hand struct {
	work chan handful
	quit chan struct{} // its own, since a shared one is a shared lock
}

// handful is a message that is out.
type handful struct {
	d   *delivery
	msg *message.Message
	// end ends the message's context.
	end context.CancelFunc
}

// hand returns an idle hand, or a new one.
func (s *subscription) hand() *hand {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		h := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return h
	}
	h := &hand{work: make(chan handful, 1), quit: make(chan struct{})}
	s.hands = append(s.hands, h)
	s.working.Go(func() { s.settle(h) })
	return h
}

// dismiss ends the hands, also those that still wait.
func (s *subscription) dismiss() {
	s.mu.Lock()
	for _, h := range s.hands {
		close(h.quit)
	}
	s.mu.Unlock()
	s.working.Wait()
}

// settle is what a hand does.
func (s *subscription) settle(h *hand) {
	for {
		var m handful
		select {
		case m = <-h.work:
		case <-h.quit:
			return
		}
		select {
		case <-m.msg.Acked():
			s.acked(h, m)
		case <-m.msg.Nacked():
			s.nacked(h, m)
		case <-h.quit:
			m.end()
			return
		}
	}
}

func (s *subscription) acked(h *hand, m handful) {
	s.mu.Lock()
	inTime := s.window.ack(m.d, time.Now())
	if inTime && s.window.clear(m.d.part) {
		s.client.ResumeFetchPartitions(map[string][]int32{s.topic: {m.d.part.id}})
	}
	s.idle = append(s.idle, h)
	s.wake()
	s.mu.Unlock()
	m.end()
	if !inTime {
		s.metrics.lateAcks.Inc()
	}
}

func (s *subscription) nacked(h *hand, m handful) {
	s.mu.Lock()
	pause, inTime := s.window.nack(m.d, time.Now())
	attempt := m.d.attempts
	s.idle = append(s.idle, h)
	s.wake()
	s.mu.Unlock()
	m.end()
	if inTime {
		s.metrics.nacks.Inc()
		s.log.Debug("message nacked", "partition", m.d.part.id, "offset", m.d.first, "attempt", attempt, "pause", pause)
	}
}
