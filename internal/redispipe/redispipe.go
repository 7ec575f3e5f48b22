// Package redispipe sends commands and scripts to Redis in pipelines: with a
// deadline for each, and with the scripts taught again where Redis has forgotten
// them, as it does at a restart or a failover.
package redispipe

import (
	"context"
	"crypto/sha1" //nolint:gosec // SHA-1 is how Redis names a script, not a safeguard
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pipe sends pipelines. It is safe for concurrent use.
type Pipe struct {
	client  redis.UniversalClient
	timeout time.Duration
	scripts []Script
}

// New returns a Pipe. Timeout bounds one pipeline; client must be opened with
// ContextTimeoutEnabled, or the bound does not hold. Scripts are all that may be
// called.
func New(client redis.UniversalClient, timeout time.Duration, scripts ...Script) *Pipe {
	return &Pipe{client: client, timeout: timeout, scripts: scripts}
}

// Exec sends commands in one pipeline and returns the first error; a missing key
// is none. Every command is asked for its own. Commands of one hash tag run in
// their order; on a cluster the tags run side by side. It answers within the
// timeout, and twice that again if Redis has to be taught the scripts.
func (p *Pipe) Exec(ctx context.Context, cmds ...redis.Cmder) error {
	err := p.send(ctx, cmds)
	var again []redis.Cmder
	for _, cmd := range cmds {
		if unknownScript(cmd.Err()) {
			again = append(again, cmd)
		}
	}
	if len(again) == 0 {
		return err
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	for _, cmd := range again {
		cmd.SetErr(nil) // the client would keep this error when the next call gets no answer
	}
	_ = p.send(ctx, again) // FirstError sees it
	return FirstError(cmds)
}

func (p *Pipe) send(ctx context.Context, cmds []redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	pipeline := p.client.Pipeline()
	_ = pipeline.BatchProcess(ctx, cmds...) // only queues
	// The error is the first command's; the others are asked one by one.
	_, _ = pipeline.Exec(ctx)
	return FirstError(cmds)
}

func (p *Pipe) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	for _, script := range p.scripts {
		if err := p.client.ScriptLoad(ctx, script.source).Err(); err != nil {
			return err
		}
	}
	return nil
}

func unknownScript(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT")
}

// FirstError returns the first failure of commands that ran; a missing key is none.
func FirstError[C redis.Cmder](cmds []C) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// Script is a Lua script by its name in Redis. It is called by that name alone,
// because pipelines have no fallback of their own; [Pipe.Exec] loads it where
// Redis does not know it. Each touches the keys of one hash tag.
type Script struct {
	source string
	sha    string
}

// NewScript returns the script of a source.
func NewScript(source string) Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return Script{source: source, sha: hex.EncodeToString(sum[:])}
}

// Int returns the command that calls a script which answers a number.
func (s Script) Int(ctx context.Context, keys []string, argv ...any) *redis.IntCmd {
	return redis.NewIntCmd(ctx, s.args(keys, argv)...)
}

// Strings returns the command that calls a script which answers a list of strings.
func (s Script) Strings(ctx context.Context, keys []string, argv ...any) *redis.StringSliceCmd {
	return redis.NewStringSliceCmd(ctx, s.args(keys, argv)...)
}

// Name returns what the script is called by, for commands that are made by hand.
func (s Script) Name() string { return s.sha }

// Slice returns the command that calls a script which answers a list.
func (s Script) Slice(ctx context.Context, keys []string, argv ...any) *redis.SliceCmd {
	return redis.NewSliceCmd(ctx, s.args(keys, argv)...)
}

func (s Script) args(keys []string, argv []any) []any {
	args := make([]any, 0, 3+len(keys)+len(argv))
	args = append(args, "evalsha", s.sha, len(keys))
	for _, key := range keys {
		args = append(args, key)
	}
	return append(args, argv...)
}
