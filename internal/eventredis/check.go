package eventredis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const checkTimeout = 500 * time.Millisecond

// ErrVolatile says that Redis does not keep what is to be safe.
var ErrVolatile = errors.New("the Redis of the event log does not keep events safely")

var (
	errNoAOF = fmt.Errorf("%w: durability before_response with log redis needs Redis with `appendonly yes`, and better with `appendfsync always`; it has appendonly no. Set it in redis.conf, or use log database", ErrVolatile)
	errEvict = fmt.Errorf("%w: durability before_response with log redis needs a Redis that evicts no keys; set `maxmemory-policy noeviction` or one of volatile-*, or use log database", ErrVolatile)
	errFull  = errors.New("the stream of events has grown to its limit, as the database does not take them")
)

// sight is what there is to see of Redis.
type sight struct {
	known    bool   // what follows
	aof      bool   // what it is told is written to a file
	fsync    string // when the file is; "": it does not say
	evicts   bool   // whole keys, when memory is short
	born     string // the stream's mark
	same     bool   // the mark is another one, but the stream is not
	first    place  // up to which the stream has nothing
	length   int64
	bytes    int64 // 0: it does not say
	explicit error // what keeps it from being used
}

// Check looks at Redis once. Its error is [ErrVolatile] if Redis is set up so that
// it would lose what Config.Durable promises, which is the operator's mistake;
// any other one says why Redis cannot be used now.
func (s *Stream) Check(ctx context.Context) error {
	seen, err := s.look(ctx, true)
	if err != nil {
		return err
	}
	return s.judge(seen)
}

// judge says whether what was seen can be used.
func (s *Stream) judge(seen sight) error {
	switch {
	case seen.explicit != nil:
		return seen.explicit
	case s.cfg.Durable && seen.known && !seen.aof:
		return errNoAOF
	case s.cfg.Durable && seen.known && seen.evicts:
		return errEvict
	case seen.bytes > s.cfg.MaxBytes:
		return errFull
	}
	return nil
}

// node is the server that has the stream.
func (s *Stream) node(ctx context.Context) (redis.Cmdable, error) {
	cluster, ok := s.cfg.Client.(*redis.ClusterClient)
	if !ok {
		return s.cfg.Client, nil
	}
	return cluster.MasterForKey(ctx, s.cfg.Key)
}

// look asks for everything in one go. settings asks for Redis's own as well.
func (s *Stream) look(ctx context.Context, settings bool) (seen sight, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	node, err := s.node(ctx)
	if err != nil {
		return seen, s.cfg.Explain(err)
	}
	key := s.cfg.Key
	taken, known := s.lastTaken()
	pipe := node.Pipeline()
	ping := pipe.Ping(ctx)
	marks := pipe.XInfoGroups(ctx, key)
	head := pipe.XRangeN(ctx, key, "-", "+", 1)
	length := pipe.XLen(ctx, key)
	remove := pipe.XDel(ctx, key, "0-1") // nobody has that id: may we?
	size := pipe.MemoryUsage(ctx, key)
	_, _ = pipe.Exec(ctx) // each command has its own error
	if err := ping.Err(); err != nil {
		return seen, s.cfg.Explain(err)
	}
	if settings {
		if err := seen.ask(ctx, node); err != nil {
			return seen, s.cfg.Explain(err)
		}
	}
	for _, err := range []error{head.Err(), length.Err(), remove.Err()} {
		if err != nil {
			seen.explicit = s.explain(err)
			return seen, nil
		}
	}
	seen.length = length.Val()
	seen.bytes, _ = size.Result() // an answer that not every server gives
	if entries := head.Val(); len(entries) > 0 {
		seen.first, _ = parsePlace(entries[0].ID)
	} else {
		seen.first = place{taken.ms, taken.n + 1} // all that was there has been moved
	}
	if err := marks.Err(); err != nil && !strings.Contains(err.Error(), "no such key") {
		seen.explicit = s.explain(err)
		return seen, nil
	}
	for _, m := range marks.Val() { // two nodes may have made one each
		if seen.born == "" || m.Name == known {
			seen.born = m.Name
		}
	}
	// What we append makes no stream, so one without a mark has lost it.
	seen.same = marks.Err() == nil && len(marks.Val()) == 0
	if seen.born == "" { // there was no stream, or somebody has removed the mark
		seen.born = "llm-proxy-" + strings.ToLower(rand.Text())
		if err := node.XGroupCreateMkStream(ctx, key, seen.born, "$").Err(); err != nil {
			seen.explicit = s.explain(err)
		}
	}
	return seen, nil
}

// explain says what to do about a key that holds something else.
func (s *Stream) explain(err error) error {
	if refused := redis.Error(nil); errors.As(err, &refused) && strings.HasPrefix(refused.Error(), "WRONGTYPE") {
		return fmt.Errorf("the key %s in Redis is not a stream: somebody else has written it; delete or rename it", s.cfg.Key)
	}
	return s.cfg.Explain(err)
}

// ask learns what Redis keeps. Where CONFIG is not allowed, INFO tells most of it.
func (seen *sight) ask(ctx context.Context, node redis.Cmdable) error {
	pipe := node.Pipeline()
	aof, fsync := pipe.ConfigGet(ctx, "appendonly"), pipe.ConfigGet(ctx, "appendfsync")
	memory, policy := pipe.ConfigGet(ctx, "maxmemory"), pipe.ConfigGet(ctx, "maxmemory-policy")
	persistence, usage := pipe.Info(ctx, "persistence"), pipe.Info(ctx, "memory")
	_, err := pipe.Exec(ctx)
	if err != nil && !refusal(err) {
		return err
	}
	limit := ""
	switch {
	case aof.Err() == nil && aof.Val()["appendonly"] != "":
		seen.known = true
		seen.aof, seen.fsync = aof.Val()["appendonly"] == "yes", fsync.Val()["appendfsync"]
		limit = memory.Val()["maxmemory"]
		seen.evicts = strings.HasPrefix(policy.Val()["maxmemory-policy"], "allkeys-")
	case persistence.Err() == nil && strings.Contains(persistence.Val(), "aof_enabled:"):
		seen.known = true
		seen.aof = strings.Contains(persistence.Val(), "aof_enabled:1")
		limit = "?"
		if strings.Contains(usage.Val(), "maxmemory:0\r\n") {
			limit = "0"
		}
		seen.evicts = strings.Contains(usage.Val(), "maxmemory_policy:allkeys-")
	}
	seen.evicts = seen.evicts && limit != "0"
	return nil
}
