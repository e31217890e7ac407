package limit

import (
	"context"
	_ "embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/window.lua
	windowLua string
	//go:embed lua/take.lua
	takeLua string
	//go:embed lua/apply.lua
	applyLua string
	//go:embed lua/beat.lua
	beatLua string
)

// redisTime is the clock of the scripts: Redis's own.
const redisTime = `local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
`

// scripts are what Redis runs.
type scripts struct{ take, apply, beat *redis.Script }

func newScripts(clock string) *scripts {
	return &scripts{
		take:  redis.NewScript(clock + windowLua + takeLua),
		apply: redis.NewScript(clock + windowLua + applyLua),
		beat:  redis.NewScript(clock + beatLua),
	}
}

// call is a script with its arguments.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// run runs scripts in one round trip, and in a second one those that Redis did not
// know. It returns their answers; of errors the first one.
func run(ctx context.Context, client redis.UniversalClient, calls []call) ([]any, error) {
	cmds := make([]*redis.Cmd, len(calls))
	send(ctx, client, calls, cmds, (*redis.Script).EvalSha)
	var unknown []call
	var where []int
	for i, cmd := range cmds {
		if err := cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			unknown, where = append(unknown, calls[i]), append(where, i)
		}
	}
	if len(unknown) > 0 {
		again := make([]*redis.Cmd, len(unknown))
		send(ctx, client, unknown, again, (*redis.Script).Eval)
		for k, i := range where {
			cmds[i] = again[k]
		}
	}
	answers := make([]any, len(calls))
	var first error
	for i, cmd := range cmds {
		answer, err := cmd.Result()
		if err != nil && first == nil {
			first = err
		}
		answers[i] = answer
	}
	return answers, first
}

type evaluate func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd

func send(ctx context.Context, client redis.UniversalClient, calls []call, cmds []*redis.Cmd, eval evaluate) {
	if len(calls) == 1 {
		cmds[0] = eval(calls[0].script, ctx, client, calls[0].keys, calls[0].args...)
		return
	}
	pipe := client.Pipeline()
	for i, c := range calls {
		cmds[i] = eval(c.script, ctx, pipe, c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its error
}
