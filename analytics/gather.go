package analytics

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"
)

// smallInsert is how many rows an insert must have to go alone.
const smallInsert = 5000

// gatherer makes one insert of small ones that come together: at rest each
// partition of the log has a few events a second, and a table should not get a part
// for each. Whoever comes first waits a little, or for the next second of the clock if
// this one had its insert, and inserts for all that came meanwhile. What comes behind a
// waiting batch of its own partition waits for that insert and then for the next; so the
// batches of all partitions should come at the same moment (kafka.BatchConfig.InStep).
// Were seconds counted from the insert before, then one that was late would make all
// later ones as late.
//
// What is inserted together has a token of its own. After a crash in between, the
// same batches may come in other company, and ClickHouse does not know the repeat
// by its token; it collapses by its ids, as all repeats do in the end. ClickHouse
// could gather itself (async_insert), but does so only for inserts of one token.
type gatherer struct {
	inserter

	// wait is the span of the clock, a second by default, in which there is one insert of
	// small batches; nothing is gathered if it is not positive.
	wait time.Duration

	mu   sync.Mutex
	next *company
	last time.Time // when the last insert began
}

// companions is which part of wait the first one waits at least: others come at the
// same time.
const companions = 10

// company is what goes in together.
type company struct {
	members []*member
	rows    int
	// full is closed when there is no reason to wait longer.
	full chan struct{}
}

// member is one insert of a company.
type member struct {
	token    string
	block    block
	from, to int
	answer   chan error
}

func (g *gatherer) insert(ctx context.Context, token string, r block, from, to int) error {
	if g.wait <= 0 || to-from >= smallInsert {
		return g.inserter.insert(ctx, token, r, from, to)
	}
	me := &member{token, r, from, to, make(chan error, 1)}
	company, first := g.join(me)
	if first {
		timer := time.NewTimer(g.pause(time.Now()))
		select {
		case <-timer.C:
		case <-company.full:
			timer.Stop()
		case <-ctx.Done(): // the others go on without waiting longer
			timer.Stop()
		}
		g.close(company)
		// The others' rows travel too: the end of the first one's context must not
		// take them along. The insert has a deadline of its own.
		g.send(context.WithoutCancel(ctx), company)
	}
	// Blocks are used again when this returns, so it waits for the one who sends.
	return <-me.answer
}

// join adds to the company that waits, or begins one.
func (g *gatherer) join(m *member) (c *company, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first = g.next == nil; first {
		g.next = &company{full: make(chan struct{})}
	}
	c = g.next
	c.members = append(c.members, m)
	if c.rows += m.to - m.from; c.rows >= smallInsert {
		close(c.full)
		g.next = nil
	}
	return c, first
}

// pause is how long the first one of a company waits.
func (g *gatherer) pause(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	begin := now.Add(g.wait / companions)
	if free := g.last.Truncate(g.wait).Add(g.wait); begin.Before(free) {
		begin = free.Add(g.wait / companions)
	}
	return begin.Sub(now)
}

// close lets nobody else in.
func (g *gatherer) close(c *company) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = time.Now()
	if g.next == c {
		g.next = nil
	}
}

// send inserts and answers all. If ClickHouse blames the data, each is tried alone,
// so that only the guilty is searched through.
func (g *gatherer) send(ctx context.Context, c *company) {
	if len(c.members) > 1 {
		all := &joined{block: c.members[0].block, members: c.members, rows: c.rows}
		err := g.inserter.insert(ctx, all.token(), all, 0, c.rows)
		if err == nil || blameOf(err) != blameData {
			for _, m := range c.members {
				m.answer <- err
			}
			return
		}
	}
	for _, m := range c.members {
		m.answer <- g.inserter.insert(ctx, m.token, m.block, m.from, m.to)
	}
}

// joined is the blocks of a company as one. Only what an insert asks for is its
// own; the rest is the first block's.
type joined struct {
	block

	members []*member
	rows    int
}

func (j *joined) len() int { return j.rows }

// appendTo appends all rows: a company is never split.
func (j *joined) appendTo(c *columns, _, _ int) error {
	for _, m := range j.members {
		if err := m.block.appendTo(c, m.from, m.to); err != nil {
			return err
		}
	}
	return nil
}

// token names the company by its members; none if a member comes from no log.
func (j *joined) token() string {
	hash := sha256.New()
	for _, m := range j.members {
		if m.token == "" {
			return ""
		}
		_, _ = hash.Write([]byte(m.token + "\n")) // never fails
	}
	return "joined/" + hex.EncodeToString(hash.Sum(nil)[:16])
}
