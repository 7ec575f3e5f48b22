package testenv

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Browser is a headless Chromium that is told what to do by its debugging protocol
// (chromedevtools.github.io/devtools-protocol).
type Browser struct {
	t      testing.TB
	toward *os.File

	mu      sync.Mutex
	next    int
	pending map[int]chan answer
	events  []Event
	changed chan struct{}
	closed  bool
}

// Event is something that the browser reports.
type Event struct {
	Method  string          `json:"method"`
	Session string          `json:"sessionId"`
	Params  json.RawMessage `json:"params"`
}

type answer struct {
	Event

	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Chromium starts a browser of the test's own, with a profile of its own.
func Chromium(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		need(t, "chromium", "run `make browser`, or install it")
	}
	// The browser reads commands from descriptor 3 and writes to 4.
	commandsOut, commandsIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	eventsOut, eventsIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// No sandbox: tests run as root in containers, and only our pages are opened.
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{commandsOut, eventsIn}
	// A group of its own, which ends as one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	_ = commandsOut.Close()
	_ = eventsIn.Close()
	b := &Browser{t: t, toward: commandsIn, pending: map[int]chan answer{}, changed: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(eventsOut)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = commandsIn.Close()
		_ = cmd.Wait()
		_ = eventsOut.Close()
		<-read
	})
	return b
}

// read takes what the browser says until it ends.
func (b *Browser) read(from *os.File) {
	reader := bufio.NewReader(from)
	for {
		text, err := reader.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.closed = true
			for _, waiter := range b.pending {
				close(waiter)
			}
			b.pending = nil
			close(b.changed)
			return
		}
		var a answer
		if json.Unmarshal(text[:len(text)-1], &a) != nil {
			continue
		}
		b.mu.Lock()
		if waiter := b.pending[a.ID]; a.ID != 0 && waiter != nil {
			waiter <- a
			delete(b.pending, a.ID)
		} else if a.Method != "" {
			b.events = append(b.events, a.Event)
			close(b.changed)
			b.changed = make(chan struct{})
		}
		b.mu.Unlock()
	}
}

// Call makes a call in a session (empty: the browser itself) and decodes its result
// into result, which may be nil.
func (b *Browser) Call(session, method string, params, result any) {
	b.t.Helper()
	if err := b.TryCall(session, method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// TryCall is Call with the error in hand.
func (b *Browser) TryCall(session, method string, params, result any) error {
	waiter := make(chan answer, 1)
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return fmt.Errorf("%s: the browser has ended", method)
	}
	b.next++
	id := b.next
	b.pending[id] = waiter
	b.mu.Unlock()
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if session != "" {
		text, err = json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": session})
	}
	if err != nil {
		return err
	}
	if _, err := b.toward.Write(append(text, 0)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-waiter:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has ended", method)
		case a.Error != nil:
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s: no answer in 30 s", method)
	}
}

// Await returns the first event that accept takes. It is given all events, the past
// ones first, each once.
func (b *Browser) Await(what string, accept func(Event) bool) Event {
	b.t.Helper()
	timeout := time.After(30 * time.Second)
	for seen := 0; ; {
		b.mu.Lock()
		events, changed, closed := b.events[seen:], b.changed, b.closed
		b.mu.Unlock()
		for _, e := range events {
			if accept(e) {
				return e
			}
		}
		seen += len(events)
		if closed {
			b.t.Fatalf("await %s: the browser has ended", what)
		}
		select {
		case <-changed:
		case <-timeout:
			b.t.Fatalf("await %s: nothing in 30 s", what)
		}
	}
}

// Eval evaluates JavaScript in a session, waits for a promise, and decodes its value
// into result.
func (b *Browser) Eval(session, script string, result any) error {
	var out struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := b.TryCall(session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &out)
	if err != nil {
		return err
	}
	if out.Exception != nil {
		return fmt.Errorf("evaluate: %s %s", out.Exception.Text, out.Exception.Exception.Description)
	}
	if result == nil || len(out.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(out.Result.Value, result)
}
