package redisconn

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// Settings say where Redis is. URLs have the forms of go-redis: redis://,
// rediss:// with TLS and unix://, with its parameters. They are secrets, as they
// may hold a password.
type Settings struct {
	// URLs has one URL, unless Redis is a cluster or watched by sentinels: then each
	// gives a further address to begin with, and the first one everything else.
	URLs []secret.Value

	// Cluster is set for Redis Cluster.
	Cluster bool

	// Sentinel is the name of the master that the sentinels at URLs watch. User and
	// password in the URL are for the sentinels then, and the parameters username
	// and password for Redis itself, as in go-redis.
	Sentinel string
}

// Key tells settings from others without revealing them.
func (s Settings) Key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%t %q", s.Cluster, s.Sentinel)
	for _, u := range s.URLs {
		fmt.Fprintf(h, " %q", u.Reveal())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Check reports what is wrong with the settings. Its errors repeat nothing of
// the URLs, nor do those of New.
func (s Settings) Check() error {
	_, err := s.target()
	return err
}

// target is what the settings come to.
type target struct {
	single   *redis.Options
	cluster  *redis.ClusterOptions
	failover *redis.FailoverOptions

	addrs   []string
	secrets []string // what must not be in an error
}

var (
	errNoURL      = errors.New("expected where Redis is, such as redis://127.0.0.1:6379/0, rediss://redis.example.com, unix:///run/redis.sock, or {env.REDIS_URL}")
	errTwoKinds   = errors.New("cluster and sentinel exclude each other")
	errManyURLs   = errors.New("several URLs are for cluster or sentinel; give one")
	errNotURL     = errors.New("not a URL of Redis: expected redis://[user:password@]host[:port][/database], rediss://… or unix://…/path, with special characters in user and password percent-encoded")
	errScheme     = errors.New("expected a URL that begins with redis://, rediss:// or unix://")
	errUnix       = errors.New("unix:// is for a single Redis; expected redis:// or rediss://")
	errParameters = errors.New("the URL has a database or parameters that the client does not know; see ParseURL, ParseClusterURL and ParseFailoverURL of go-redis for those that there are")
	errFurther    = errors.New("a further URL must have the scheme, user and password of the first URL, or no user at all, and no parameters")
)

func (s Settings) target() (*target, error) {
	switch {
	case len(s.URLs) == 0:
		return nil, errNoURL
	case s.Cluster && s.Sentinel != "":
		return nil, errTwoKinds
	case len(s.URLs) > 1 && !s.Cluster && s.Sentinel == "":
		return nil, errManyURLs
	}
	t := new(target)
	var first *url.URL
	for i, value := range s.URLs {
		u, err := s.checkURL(value.Reveal())
		if err == nil && i == 0 {
			first = u
			err = t.parse(s, value.Reveal())
		} else if err == nil {
			err = t.add(first, u)
		}
		if err != nil && len(s.URLs) > 1 {
			return nil, fmt.Errorf("URL %d: %w", i+1, err)
		}
		if err != nil {
			return nil, err
		}
		t.hide(u)
	}
	t.bound(s)
	return t, nil
}

// checkURL refuses what would be misread: half of a password that is not encoded
// would count as address, which is shown.
func (s Settings) checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // and says so with the URL in it
		return nil, errNotURL
	case u.Opaque != "", u.Fragment != "", strings.HasSuffix(text, "#"):
		return nil, errNotURL
	case u.Scheme == "unix" && (s.Cluster || s.Sentinel != ""):
		return nil, errUnix
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return nil, errScheme
	}
	return u, nil
}

// parse reads the first URL.
func (t *target) parse(s Settings, text string) (err error) {
	switch {
	case s.Cluster:
		t.cluster, err = redis.ParseClusterURL(text)
	case s.Sentinel != "":
		t.failover, err = redis.ParseFailoverURL(text)
	default:
		t.single, err = redis.ParseURL(text)
	}
	if err != nil {
		return errParameters // theirs repeats the value
	}
	switch {
	case t.cluster != nil:
		t.addrs = t.cluster.Addrs
	case t.failover != nil:
		t.addrs = t.failover.SentinelAddrs
		t.failover.MasterName = s.Sentinel
		t.secrets = append(t.secrets, t.failover.Password)
	default:
		t.addrs = []string{t.single.Addr}
	}
	return nil
}

// add takes the address of a further URL.
func (t *target) add(first, u *url.URL) error {
	if u.Scheme != first.Scheme || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" || u.User != nil && u.User.String() != first.User.String() {
		return errFurther
	}
	var addr string
	if t.failover != nil {
		o, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return errNotURL
		}
		addr = o.SentinelAddrs[0]
		t.failover.SentinelAddrs = append(t.failover.SentinelAddrs, addr)
	} else {
		o, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return errNotURL
		}
		addr = o.Addrs[0]
		t.cluster.Addrs = append(t.cluster.Addrs, addr)
	}
	t.addrs = append(slices.Clone(t.addrs), addr)
	return nil
}

// hide notes what a server or proxy may repeat in an error.
func (t *target) hide(u *url.URL) {
	if password, ok := u.User.Password(); ok {
		t.secrets = append(t.secrets, password, u.User.String())
	}
}
