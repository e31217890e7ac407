package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseAudit reads the block:
//
//	audit {
//		file <path>
//		retention <duration>
//	}
func parseAudit(d *caddyfile.Dispenser) (*Audit, error) {
	if d.NextArg() {
		return nil, d.Errf("audit takes no value but a block: audit { file /var/log/llm-proxy/audit.jsonl }")
	}
	audit := new(Audit)
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := seen.add(d, option); err != nil {
			return nil, err
		}
		var err error
		switch option {
		case "file":
			if audit.File, err = oneArg(d); err == nil && strings.HasSuffix(audit.File, "/") {
				err = d.Errf("file: %q is a directory; expected the path of a file", audit.File)
			}
		case "retention":
			if audit.Retention, err = parseDuration(d); err == nil && audit.Retention == 0 {
				err = d.Err("retention: must be positive, such as 8760h")
			}
		default:
			err = unknownOption(d, "file, retention")
		}
		if err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 {
		return nil, d.Err("audit is empty; expected file <path> or retention <duration> in a block")
	}
	return audit, nil
}
