#!/usr/bin/env bash
# The main job with no provider account: the proxy, the built-in provider
# simulator, a project, a key, a token, and a streamed chat completion.
set -euo pipefail
cd "$(dirname "$0")/.."
caddy="${CADDY:-$PWD/bin/caddy}"
dir=$(mktemp -d)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
export XDG_CONFIG_HOME="$dir/config" XDG_DATA_HOME="$dir/share"

# Free loopback ports, so that the demo disturbs nothing that runs already.
free_port() {
	local port
	for _ in $(seq 100); do
		port=$((20000 + RANDOM % 12000)) # below those that the system gives out by itself
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	echo "no free port found" >&2
	return 1
}
site_port=$(free_port)
sim_port=$(free_port)
url="https://localhost:$site_port"

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

cd "$dir"
step "The provider simulator on http://127.0.0.1:$sim_port"
"$caddy" llm-proxy simulate --listen "127.0.0.1:$sim_port" --pace 40ms >sim.log 2>&1 &
pids+=($!)

step "The proxy on $url: automatic HTTPS (internal CA), SQLite, one port"
cat >Caddyfile <<CADDYFILE
{
	admin off
	skip_install_trust
	auto_https disable_redirects
	storage file_system ./data/caddy
	llm_proxy {
		database sqlite ./data/llm-proxy.db
		provider openai {
			base_url http://127.0.0.1:$sim_port/v1
		}
	}
}

$url {
	llm_proxy_admin
	llm_proxy {
		cache {
			mode opt_in
		}
	}
}
CADDYFILE
cat Caddyfile
"$caddy" run --config Caddyfile --adapter caddyfile >proxy.log 2>&1 &
pids+=($!)
root=data/caddy/pki/authorities/local/root.crt
for _ in $(seq 150); do
	if [ -f "$root" ] && curl -fs --cacert "$root" "$url/ready" >/dev/null 2>&1; then ready=1 && break; fi
	if ! kill -0 "${pids[1]}" 2>/dev/null; then break; fi
	sleep 0.2
done
if [ -z "${ready:-}" ]; then
	cat proxy.log >&2
	echo "the proxy did not start" >&2
	exit 1
fi

llm() { "$caddy" llm-proxy --url "$url" "$@"; }

step "A project with its provider key, and a token that withers in an hour"
echo '$ caddy llm-proxy project create demo --api-key …'
printf 'sk-simulated-provider-key' | llm project create demo --api-key -
echo '$ caddy llm-proxy token create --project demo --duration 1h'
token=$(llm token create --project demo --duration 1h --json | sed -E 's/.*"token": *"([^"]+)".*/\1/;t;d')
echo "token: ${token:0:14}…"

step "A streamed chat completion with that token; the provider's key stays here"
LLM_PROXY_TOKEN="$token" llm chat --model gpt-4o-mini "Say hello to the demo"

step "The same with curl, as any OpenAI client would send it"
curl -sSN --cacert "$root" "$url/v1/chat/completions" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
	-d '{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}' | { head -n 6; cat >/dev/null; }

step "The same twice, by a client that takes an answer of the last minute: the second one is a cache hit"
for _ in 1 2; do
	curl -sS --cacert "$root" -o answer.json -D - "$url/v1/chat/completions" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
		-H 'Cache-Control: max-age=60' -d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"What is a cache?"}]}' | grep -i '^cache-status'
done

step "A budget of half a dollar a day, which nothing exceeds; the holder of the token sees how it stands"
echo '$ caddy llm-proxy token update … --budget-usd 0.50 --budget-period day --rpm 60'
llm token update "$(llm token inspect --json "$token" | sed -E 's/.*"id": *"([^"]+)".*/\1/;t;d')" --budget-usd 0.50 --budget-period day --rpm 60 >updated.txt
curl -sS --cacert "$root" "$url/v1/llm-proxy/token" -H "Authorization: Bearer $token" | sed -E 's/.*("budget_usd":\{[^}]*\}).*/\1\n/'

step "What that used and cost, by the provider's own count; every request is recorded"
echo '$ caddy llm-proxy usage --by project,model'
llm usage --by project,model
echo '$ caddy llm-proxy requests'
llm requests

step "The token is revoked, and refused at once"
id=$(llm token inspect --json "$token" | sed -E 's/.*"id": *"([^"]+)".*/\1/;t;d')
llm token revoke "$id"
curl -sS --cacert "$root" "$url/v1/models" -H "Authorization: Bearer $token"
printf '\n\nThat was the main job. Next: make run, and README.md.\n'
