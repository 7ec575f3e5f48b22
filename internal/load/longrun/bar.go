package longrun

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

const (
	// terminalInterval is how often a bar on a terminal is drawn: often enough to
	// look alive, too seldom to cost anything.
	terminalInterval = 200 * time.Millisecond
	// DefaultInterval is how often a plain line is printed.
	DefaultInterval = 5 * time.Second
)

// BarConfig says what a bar shows.
type BarConfig struct {
	// Title stands at the beginning of each line.
	Title string
	// Total is how many steps there are; zero means nobody knows.
	Total int64
	// Terminal draws a moving bar instead of plain lines.
	Terminal bool
	// Interval is how often a plain line is printed; zero means DefaultInterval.
	Interval time.Duration
	// Note, if not nil, gives text to stand at the end of a line. It is called from
	// the bar's own goroutine.
	Note func() string
}

// Bar says how far a run is, on a terminal or in a log. It owns one goroutine,
// which Stop ends. Its methods are safe for concurrent use.
type Bar struct {
	cfg   BarConfig
	out   io.Writer
	start time.Time
	done  atomic.Int64

	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// StartBar starts to report to out, which nobody else may write to before Stop
// returns. What out says of the writing is ignored: a run does not fail because
// nobody watches it.
func StartBar(out io.Writer, cfg BarConfig) *Bar {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	b := &Bar{cfg: cfg, out: out, start: time.Now(), stop: make(chan struct{})}
	if cfg.Terminal {
		b.ended.Go(b.draw)
	} else {
		b.ended.Go(b.print)
	}
	return b
}

// Add counts n more steps as done.
func (b *Bar) Add(n int64) { b.done.Add(n) }

// Set says how many steps are done in all. It does not mix with Add.
func (b *Bar) Set(n int64) { b.done.Store(n) }

// Done returns how many steps were counted.
func (b *Bar) Done() int64 { return b.done.Load() }

// Stop prints the last state and waits until nothing more is written. Later
// calls do nothing.
func (b *Bar) Stop() {
	b.once.Do(func() { close(b.stop) })
	b.ended.Wait()
}

func (b *Bar) print() {
	ticker := time.NewTicker(b.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintln(b.out, b.line())
		case <-b.stop:
			fmt.Fprintln(b.out, b.line())
			return
		}
	}
}

// draw redraws one line. The last state stays on the screen.
func (b *Bar) draw() {
	ticker := time.NewTicker(terminalInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprint(b.out, "\r", b.picture(), eraseRest)
		case <-b.stop:
			fmt.Fprint(b.out, "\r", b.picture(), eraseRest, "\n")
			return
		}
	}
}

// eraseRest is the terminal's word for: nothing stands behind the cursor.
const eraseRest = "\x1b[K"

// picture is the line, with a bar where a share is known and there is room, cut to what
// the terminal shows: a line that wraps would not be drawn over.
func (b *Bar) picture() string {
	line, room := []rune(b.line()), b.width()-1 // no terminal wraps before its last column
	if length := min(room-len(line)-len(" []"), maxBar); b.cfg.Total > 0 && length >= minBar {
		full := int(int64(length) * min(b.Done(), b.cfg.Total) / b.cfg.Total)
		return string(line) + " [" + strings.Repeat("=", full) + strings.Repeat(" ", length-full) + "]"
	}
	return string(line[:min(len(line), max(room, 0))])
}

const (
	// minBar and maxBar are the columns of a bar: a shorter one says nothing, a longer one
	// no more.
	minBar, maxBar = 5, 30
	// usualWidth is the width of what does not tell.
	usualWidth = 80
)

// width asks each time: people resize windows.
func (b *Bar) width() int {
	if f, ok := b.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return usualWidth
}

func (b *Bar) line() string {
	done, elapsed := b.Done(), time.Since(b.start)
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %s", b.cfg.Title, Count(done))
	if b.cfg.Total > 0 {
		fmt.Fprintf(&s, " of %s (%.1f %%)", Count(b.cfg.Total), 100*float64(done)/float64(b.cfg.Total))
	}
	if elapsed >= time.Second { // the rate of a moment says nothing
		fmt.Fprintf(&s, ", %s/s", Count(int64(Rate(done, elapsed))))
	}
	if note := b.note(); note != "" {
		s.WriteString(", " + note)
	}
	return s.String()
}

func (b *Bar) note() string {
	if b.cfg.Note == nil {
		return ""
	}
	return b.cfg.Note()
}

// Rate returns steps a second; 0 when no time has passed.
func Rate(n int64, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	return float64(n) / elapsed.Seconds()
}

// Count writes n with a comma at the thousands: 870,161.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
