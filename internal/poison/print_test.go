package poison_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/poison"
	"activityfeed/internal/record"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, followed(t, 1), 7, "exhausted", 2)
	nasty := garbage("\x00\x01 caption \x1b[2J\xff of somebody")
	nasty.Metadata["ce_type"] = "other.v1.\x1b[31mThing"
	nasty.Metadata[record.KeyMetadata] = "a\nb"
	b.add(t, nasty, 8, "undecodable", 0)
	entries, err := b.tool.List(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	var refused bytes.Buffer
	poison.PrintResult(&refused, "replayed", poison.Result{Service: service, Done: entries[1:], Refused: entries[:1]})
	var dry bytes.Buffer
	poison.PrintResult(&dry, "dropped", poison.Result{Done: entries, DryRun: true})
	var none, gone bytes.Buffer
	poison.PrintResult(&none, "dropped", poison.Result{Service: service, Others: entries})
	poison.PrintResult(&gone, "dropped", poison.Result{Service: service})
	var list, empty, event, bytesOf bytes.Buffer
	poison.PrintList(&list, service, entries)
	poison.PrintList(&empty, service, nil)
	if err := poison.PrintEntry(&event, entries[0]); err != nil {
		t.Fatal(err)
	}
	if err := poison.PrintEntry(&bytesOf, entries[1]); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]*bytes.Buffer{
		"list": &list, "empty": &empty, "event": &event, "bytes": &bytesOf, "refused": &refused, "dry": &dry, "none": &none, "gone": &gone,
	} {
		golden(t, name, got.Bytes())
	}
}

// golden compares with testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
