package embedded

import (
	"log/slog"
	"testing"
)

func TestEngineLines(t *testing.T) {
	t.Parallel()
	const stamp = "2026.11.22 02:00:00.000000 [ 1 ] {} <Error> "
	for _, tt := range []struct {
		name  string
		parse lineParser
		line  string
		want  engineLine
	}{
		{
			"an analyst's typo", clickHouseLine, stamp + "executeQuery: Code: 47. DB::Exception: Unknown x. (from 127.0.0.1:1) (in query: SELECT x)" + traceTail,
			engineLine{level: slog.LevelDebug, text: "executeQuery: Code: 47. DB::Exception: Unknown x. (from 127.0.0.1:1) (in query: SELECT x)"},
		},
		{
			"its second line", clickHouseLine, stamp + "TCPHandler: Code: 47. DB::Exception: Unknown x." + traceTail,
			engineLine{level: slog.LevelDebug, text: "TCPHandler: Code: 47. DB::Exception: Unknown x."},
		},
		{
			"a wrong password over HTTP", clickHouseLine, stamp + "DynamicQueryHandler: Code: 516. DB::Exception: Authentication failed" + traceTail,
			engineLine{level: slog.LevelDebug, text: "DynamicQueryHandler: Code: 516. DB::Exception: Authentication failed"},
		},
		{
			"a fault of its own", clickHouseLine, stamp + "MergeTreeBackgroundExecutor: Code: 243. DB::Exception: Cannot reserve 1 MiB" + traceTail,
			engineLine{level: slog.LevelWarn, text: "MergeTreeBackgroundExecutor: Code: 243. DB::Exception: Cannot reserve 1 MiB"},
		},
		{
			"a port that it cannot open", clickHouseLine, "Code: 210. DB::Exception: Listen [127.0.0.1]:1 failed",
			engineLine{level: slog.LevelInfo, text: "Code: 210. DB::Exception: Listen [127.0.0.1]:1 failed", refusal: true},
		},
		{"the heading of that", clickHouseLine, "Received exception:", engineLine{}},
		{"a frame of a trace", clickHouseLine, "0. DB::Exception @ 0x0000000000000001", engineLine{}},
		{
			"a setting of the machine", redisLine, "12:C 22 Nov 2026 02:00:00.000 # WARNING Memory overcommit must be enabled! Without it",
			engineLine{level: slog.LevelDebug, text: "WARNING Memory overcommit must be enabled! Without it"},
		},
		{
			"a greeting", redisLine, "12:M 22 Nov 2026 02:00:00.000 * Ready to accept connections",
			engineLine{level: slog.LevelDebug, text: "12:M 22 Nov 2026 02:00:00.000 * Ready to accept connections"},
		},
		{
			"trouble", redisLine, "12:M 22 Nov 2026 02:00:00.000 # Fatal: Can't open the append-only file",
			engineLine{level: slog.LevelInfo, text: "Fatal: Can't open the append-only file"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.parse(tt.line); got != tt.want {
				t.Errorf("the line %q is read as %+v, want %+v", tt.line, got, tt.want)
			}
		})
	}
}

func TestLastWordsAreOfWeight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		lines string
		want  string
	}{
		{"nothing said", "", ""},
		{"greetings alone", "1:M 22 Nov 2026 02:00:00.000 * Ready\n", ""},
		{"trouble, then a greeting", "1:M 22 Nov 2026 02:00:00.000 # Warning: one\n1:M 22 Nov 2026 02:00:00.000 # Failed: two\n1:M 22 Nov 2026 02:00:00.000 # bye\n", ": Failed: two"},
		{"a setting of the machine", "1:M 22 Nov 2026 02:00:00.000 # WARNING Memory overcommit must be enabled!\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLineLog(slog.New(slog.DiscardHandler), redisLine)
			if _, err := l.Write([]byte(tt.lines)); err != nil {
				t.Fatal(err)
			}
			if got := l.lastWords(0); got != tt.want {
				t.Errorf("lastWords = %q, want %q", got, tt.want)
			}
		})
	}
}
