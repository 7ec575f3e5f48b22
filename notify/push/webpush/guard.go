package webpush

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"activityfeed/internal/fault"
	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

// maxEndpoint bounds an endpoint; those of browsers have 150 to 1,000 bytes.
const maxEndpoint = 2048

// errBlocked is a connection that the guard refused.
var errBlocked = errors.New("the endpoint leads to an address that is not public")

// internal are the addresses that are not on the public internet but that
// netip.Addr's own questions do not find, or that carry an IPv4 address inside.
// Source: the IANA special-purpose address registries.
var internal = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier NAT, also cloud metadata
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64: an IPv4 address inside
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4: an IPv4 address inside
	netip.MustParsePrefix("fec0::/10"),       // old site-local
}

// public says whether an address is on the public internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range internal {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// guardedDialer connects to public addresses alone. The check stands behind the
// resolver: a name that passes any earlier check may resolve to anything later.
func guardedDialer() *net.Dialer {
	dialer := wire.Dialer()
	dialer.Control = func(_, address string, _ syscall.RawConn) error {
		resolved, err := netip.ParseAddrPort(address)
		if err != nil || !public(resolved.Addr()) {
			return errBlocked
		}
		return nil
	}
	return dialer
}

// checkEndpoint says whether we send to an endpoint.
func checkEndpoint(endpoint string, private map[string]bool) error {
	if len(endpoint) > maxEndpoint {
		return fault.Invalid("endpoint", "is longer than %d bytes", maxEndpoint)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return fault.Invalid("endpoint", "is not a URL")
	}
	if u.User != nil || u.Fragment != "" {
		return fault.Invalid("endpoint", "must have no user and no fragment")
	}
	if private[push.Target{Endpoint: endpoint}.Origin()] {
		return nil
	}
	if u.Scheme != "https" {
		return fault.Invalid("endpoint", "is not https")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return fault.Invalid("endpoint", "names an address and no host")
	}
	if !realHost(host) {
		return fault.Invalid("endpoint", "names a host that is not on the public internet")
	}
	return nil
}

// realHost says whether a name can be one of the public internet. The last label of
// those is never a number, which some resolvers take for an IPv4 address.
func realHost(host string) bool {
	dot := strings.LastIndexByte(host, '.')
	if dot < 1 || dot == len(host)-1 {
		return false
	}
	switch last := host[dot+1:]; last {
	case "local", "localhost", "invalid", "internal", "lan", "home", "corp", "onion":
		return false
	default:
		return last[0] < '0' || last[0] > '9'
	}
}
