// Package pushtest is what the tests of the senders of all providers have in common.
package pushtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/fault"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
)

// Service is a push service on this machine; see package pushservice.
type Service interface {
	Answer(replies ...*pushservice.Reply)
	Faults() []string
}

// Message returns a message that has something for every part of a notification.
func Message() push.Message {
	return push.Message{
		ID: "1:bob:phone", Title: "ann posted a photo", Body: "Sunset over the harbour", URL: "https://photos.example.com/p/1",
		CollapseKey: "posts of ann", Data: map[string]string{"post_id": "1"}, Badge: 3,
	}
}

// WantOutcome compares all of an outcome but the provider's id, which nobody can
// foresee, and demands that the service found nothing wrong with the requests.
func WantOutcome(t *testing.T, service Service, want, got push.Outcome) {
	t.Helper()
	got.ProviderID = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Send (-want +got):\n%s", diff)
	}
	if faults := service.Faults(); len(faults) > 0 {
		t.Errorf("the service found: %v", faults)
	}
}

// WantTimeout sends to a service that does not answer, by a sender whose time limit
// is short.
func WantTimeout(t *testing.T, service Service, sender push.Sender, to push.Target, scope push.Scope) {
	t.Helper()
	service.Answer(&pushservice.Reply{Status: 200, Delay: time.Minute})
	got := sender.Send(t.Context(), to, Message())
	if want := (push.Outcome{Action: push.Retry, Reason: push.Timeout, Scope: scope, Code: "timeout"}); got != want {
		t.Errorf("Send = %+v, want %+v", got, want)
	}
}

// WantCheck has a sender check a target and compares the field that it finds fault
// with; none for a good one. What is at fault is not sent to either.
func WantCheck(t *testing.T, sender push.Sender, to push.Target, field string) {
	t.Helper()
	err := sender.Check(to)
	got := ""
	if f := fault.Of(err); f != nil {
		got = f.Field
	}
	if got != field || (err == nil) != (field == "") {
		t.Errorf("Check = %v (field %q), want field %q", err, got, field)
	}
	if field == "" {
		return
	}
	refused := push.Outcome{Action: push.Drop, Reason: push.InvalidTarget, Strike: true, Code: field}
	if got := sender.Send(t.Context(), to, Message()); got != refused {
		t.Errorf("Send = %+v, want %+v", got, refused)
	}
}

// File writes a file of the test's that only its owner can read, as keys are kept,
// and returns its path.
func File(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
