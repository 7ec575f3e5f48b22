package webpush

import (
	"cmp"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Config sets up a [Sender]. The zero value of a field means its default.
type Config struct {
	// Subject is how a push service reaches whoever runs this server: "mailto:" and
	// an address, or an https URL, of a real domain: Apple refuses every push of a
	// subject at localhost, where the others pass. Required; the command line takes
	// its absence as no Web Push.
	Subject string `help:"Contact of whoever runs this server, mailto:ADDRESS or https://URL of a real domain. Push services ask for it; without one there is no Web Push." placeholder:"CONTACT"`
	// Key is the VAPID key, 32 bytes in base64url. Empty: KeyFile.
	Key string `help:"VAPID key, the private number in base64url; all processes need the same. Better given in the environment. None: the key file." placeholder:"KEY"`
	// KeyFile keeps the VAPID key, PKCS#8 in PEM, and is made if it is not there.
	// Required without Key. To lose it ends all subscriptions.
	KeyFile string `help:"File of the VAPID key, made on the first start; to lose it ends all subscriptions. None: vapid.pem in the data folder." placeholder:"FILE"`
	// Timeout bounds one attempt, retries within it included. Default 15 s.
	Timeout time.Duration `default:"15s" help:"Deadline of one push."`
	// PrivateOrigins may be sent to though they are not https or not on the public
	// internet: a UnifiedPush distributor in one's own network. scheme://host:port.
	PrivateOrigins []string `help:"Origins of push services in your own network (scheme://host:port), to which the rules for public endpoints do not apply." placeholder:"ORIGIN"`
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	return c
}

// Validate returns all faults of the configuration, joined. No Subject is none: it
// means no Web Push, and [New] refuses it.
func (c Config) Validate() error {
	var errs []error
	if c.Subject != "" {
		errs = append(errs, checkSubject(c.Subject))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("push-webpush: timeout: %s is negative", c.Timeout))
	}
	for _, origin := range c.PrivateOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || origin != u.Scheme+"://"+u.Host {
			errs = append(errs, fmt.Errorf("push-webpush: private-origins: %q is not scheme://host:port", origin))
		}
	}
	return errors.Join(errs...)
}

// checkSubject refuses what Apple answers with 403 BadJwtToken (web-push#947).
func checkSubject(subject string) error {
	scheme, rest, _ := strings.Cut(subject, ":")
	var host string
	switch scheme {
	case "mailto":
		address, err := mail.ParseAddress(rest)
		if err != nil || address.Address != rest {
			return fmt.Errorf("push-webpush: subject: %q is not mailto: and an address", subject)
		}
		host = rest[strings.LastIndexByte(rest, '@')+1:]
	case "https":
		u, err := url.Parse(subject)
		if err != nil || u.Hostname() == "" {
			return fmt.Errorf("push-webpush: subject: %q is not an https URL", subject)
		}
		host = u.Hostname()
	default:
		return fmt.Errorf("push-webpush: subject: %q begins neither with mailto: nor with https: as it must", subject)
	}
	host = strings.ToLower(host)
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err == nil || !realHost(host) || strings.HasSuffix(host, ".test") {
		return fmt.Errorf("push-webpush: subject: %q is not of a real domain, which Apple's push service refuses", subject)
	}
	return nil
}
