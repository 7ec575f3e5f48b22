package webpush_test

import (
	"testing"
	"time"

	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
)

// One signature serves all pushes to an origin for six hours.
func TestTokensAreCached(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	for range 3 {
		b.send(t, push.OK)
	}
	b.clock.Advance(7 * time.Hour)
	b.send(t, push.OK)
	tokens := map[string]bool{}
	for _, p := range b.service.Received() {
		tokens[p.Header.Get("Authorization")] = true
	}
	if len(tokens) != 2 {
		t.Errorf("%d tokens in 7 hours, want 2", len(tokens))
	}
}

// A service that refuses everything does not make us sign for every push.
func TestRefusedTokensAreRenewedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.send(t, push.OK)
	b.clock.Advance(time.Hour)
	b.service.Answer(&pushservice.Reply{Status: 403})
	for range 5 {
		b.send(t, push.Suspect)
	}
	// 1 accepted, 5 refused, 1 of them tried again.
	if got := b.service.Requests(); got != 7 {
		t.Errorf("%d requests, want 7", got)
	}
}

// Over the judge: bad credentials prune nobody, whatever the number of devices.
func TestBadCredentialsPauseAndPruneNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	judge := push.NewJudge(b.sender, b.clock.Now)
	b.service.Answer(&pushservice.Reply{Status: 403})
	var last push.Outcome
	for range 20 {
		last = judge.Send(t.Context(), b.subscribe(t), message)
		if last.Action != push.Retry && last.Action != push.Pause {
			t.Fatalf("Send = %+v, want Retry or Pause", last)
		}
		b.clock.Advance(time.Second)
	}
	if last.Action != push.Pause || last.Scope != push.ScopeOrigin {
		t.Errorf("after 20 devices Send = %+v, want Pause of the origin", last)
	}
}
