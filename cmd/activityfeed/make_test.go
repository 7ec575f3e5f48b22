package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// `make help` lists every target that can be asked for, in columns, and colours
// nothing where nobody looks.
func TestMakeHelp(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("needs make on PATH")
	}
	out, err := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", "../..", "help").Output()
	if err != nil {
		t.Fatalf("make help: %v", err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	help := string(out)
	if strings.Contains(help, "\x1b") {
		t.Errorf("make help colours what is no terminal:\n%q", help)
	}
	listed := map[string]bool{}
	line := regexp.MustCompile(`^  ([a-z-]+) +(.*)$`)
	for text := range strings.SplitSeq(strings.TrimRight(help, "\n"), "\n") {
		found := line.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("make help has the line %q: no target and what it does", text)
			continue
		}
		listed[found[1]] = true
		if column := strings.Index(text, found[2]); column != 18 {
			t.Errorf("make help: %q begins in column %d, want 18", found[2], column)
		}
	}
	phony := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindSubmatch(makefile)
	if phony == nil {
		t.Fatal("the Makefile names no targets")
	}
	for target := range strings.FieldsSeq(string(phony[1])) {
		if !listed[target] {
			t.Errorf("make help lacks %s", target)
		}
	}
}
