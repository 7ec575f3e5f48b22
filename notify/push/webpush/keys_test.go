package webpush_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"activityfeed/notify/push/pushtest"
	"activityfeed/notify/push/webpush"
)

func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "vapid.pem")
	// Many starters at once agree on one key.
	keys := make([]string, 8)
	var starters sync.WaitGroup
	for i := range keys {
		starters.Go(func() {
			key, err := webpush.LoadKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			raw, err := key.Bytes()
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(raw)
		})
	}
	starters.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two starters have different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file is %v, %v, want -rw-------", info.Mode(), err)
	}
	given, err := webpush.ParseKey(base64.RawURLEncoding.EncodeToString([]byte(keys[0])))
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := given.Bytes(); string(raw) != keys[0] {
		t.Error("the key given as text is another one")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A damaged key is never replaced: that would end all subscriptions.
func TestDamagedKeyStaysAnError(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "half": "-----BEGIN PRIVATE KEY-----\nMIGH", "other": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		path := pushtest.File(t, "vapid.pem", []byte(content))
		if _, err := webpush.LoadKey(path); err == nil {
			t.Errorf("LoadKey of a file that is %s succeeded", name)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("LoadKey changed a file that is %s", name)
		}
	}
}
