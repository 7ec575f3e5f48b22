package fcm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

const defaultBaseURL = "https://fcm.googleapis.com"

// Config sets up a [Sender]. The zero value of a field means its default.
type Config struct {
	// Credentials is the file of a service account, as Firebase gives it (JSON).
	// Required; the command line takes its absence as no FCM.
	Credentials string `help:"File of a Firebase service account (JSON). None: no FCM." placeholder:"FILE"`
	// BaseURL is FCM's address, for tests. Default https://fcm.googleapis.com.
	BaseURL string `default:"https://fcm.googleapis.com" help:"Address of FCM." hidden:""`
	// Timeout bounds one attempt, an access token included. FCM asks for at least
	// 10 s. Default 15 s.
	Timeout time.Duration `default:"15s" help:"Deadline of one push."`
	// PerMinute is how many messages this process sends to the project in a minute at
	// most, spread over its seconds. FCM takes 600,000 of a project: processes that send
	// much at the same time should share that. Default 600,000.
	PerMinute int `default:"600000" help:"Messages a minute that this process sends at most; a project has 600,000 for all processes."`
}

func (c Config) withDefaults() Config {
	c.BaseURL = cmp.Or(c.BaseURL, defaultBaseURL)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.PerMinute = cmp.Or(c.PerMinute, 600_000)
	return c
}

// Validate returns all faults of the configuration, joined. No Credentials is none:
// it means no FCM, and [New] refuses it.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.BaseURL); err != nil || c.BaseURL != "" && (u.Host == "" || u.Path != "") {
		errs = append(errs, fmt.Errorf("push-fcm: base-url: %q is not scheme://host", c.BaseURL))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("push-fcm: timeout: %s is negative", c.Timeout))
	}
	if c.PerMinute < 0 {
		errs = append(errs, fmt.Errorf("push-fcm: per-minute: %d is negative", c.PerMinute))
	}
	return errors.Join(errs...)
}

// account is what is used of a service account's file.
type account struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

func loadAccount(path string) (account, error) {
	var a account
	text, err := os.ReadFile(path)
	if err != nil {
		return a, fmt.Errorf("fcm: read the service account: %w", err)
	}
	// The decoder's error could show a part of the key.
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("fcm: the service account %s is not JSON", path)
	}
	if a.Type != "service_account" || a.ProjectID == "" || a.PrivateKey == "" || a.ClientEmail == "" || a.TokenURI == "" {
		return a, fmt.Errorf("fcm: %s is not a service account: type, project_id, private_key, client_email and token_uri are required", path)
	}
	return a, nil
}
