package apns

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"
)

const (
	productionURL = "https://api.push.apple.com"
	sandboxURL    = "https://api.sandbox.push.apple.com"
)

// identifier is the form of key and team ids.
var identifier = regexp.MustCompile(`^[A-Z0-9]{10}$`)

// Config sets up a [Sender]. The zero value of a field means its default.
type Config struct {
	// KeyFile is the authentication key that Apple gives, AuthKey_XXXXXXXXXX.p8.
	// Required; the command line takes its absence as no APNs.
	KeyFile string `help:"File of an APNs authentication key (.p8). None: no APNs." placeholder:"FILE"`
	// KeyID is the key's name of 10 characters. Required.
	KeyID string `help:"Name of the APNs key, 10 characters." placeholder:"ID"`
	// TeamID is the owner's name of 10 characters. Required.
	TeamID string `help:"Name of the Apple developer team, 10 characters." placeholder:"ID"`
	// Topic is the bundle id of the app, for devices that name none. Required.
	Topic string `help:"Bundle id of the app, for devices that name none." placeholder:"APP"`
	// URL and SandboxURL are Apple's addresses, for tests.
	URL        string `default:"https://api.push.apple.com" help:"Address of APNs." hidden:""`
	SandboxURL string `default:"https://api.sandbox.push.apple.com" help:"Address of the APNs sandbox." hidden:""`
	// Timeout bounds one attempt. Default 15 s.
	Timeout time.Duration `default:"15s" help:"Deadline of one push."`
}

func (c Config) withDefaults() Config {
	c.URL = cmp.Or(c.URL, productionURL)
	c.SandboxURL = cmp.Or(c.SandboxURL, sandboxURL)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	return c
}

// Validate returns all faults of the configuration, joined. No KeyFile is none: it
// means no APNs, and [New] refuses it.
func (c Config) Validate() error {
	if c.KeyFile == "" {
		return nil
	}
	var errs []error
	for _, f := range []struct{ name, value string }{{"key-id", c.KeyID}, {"team-id", c.TeamID}} {
		if !identifier.MatchString(f.value) {
			errs = append(errs, fmt.Errorf("push-apns: %s: %q has not 10 capital letters and digits", f.name, f.value))
		}
	}
	if !topicForm.MatchString(c.Topic) {
		errs = append(errs, fmt.Errorf("push-apns: topic: %q is not a bundle id", c.Topic))
	}
	for _, address := range []string{c.URL, c.SandboxURL} {
		if u, err := url.Parse(address); err != nil || address != "" && (u.Host == "" || u.Path != "") {
			errs = append(errs, fmt.Errorf("push-apns: url: %q is not scheme://host", address))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("push-apns: timeout: %s is negative", c.Timeout))
	}
	return errors.Join(errs...)
}
