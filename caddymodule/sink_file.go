package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/caddymodule/guest"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// FileSink is the sink `file`: events as JSON lines, in a file for its owner alone.
// A batch is on the disk when it counts as delivered.
type FileSink struct {
	// The file. It and its directory are made when there are events. Required.
	Path string `json:"path,omitempty"`

	// The size in bytes at which the file is rotated, in whole MiB. Default: 100 MiB.
	RollSize int64 `json:"roll_size,omitempty"`

	// After how long the file is rotated, whatever its size. Default: never.
	RollInterval caddy.Duration `json:"roll_interval,omitempty"`

	// How many rotated files are kept. Default: 10; -1 is all.
	RollKeep int `json:"roll_keep,omitempty"`

	// How long rotated files are kept, in whole days. Default: until there are too many.
	RollKeepFor caddy.Duration `json:"roll_keep_for,omitempty"`

	file *sink.File
}

// CaddyModule returns the Caddy module information.
func (*FileSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy.sinks.file", New: func() caddy.Module { return new(FileSink) }}
}

// Provision checks the options. The file is not touched.
func (s *FileSink) Provision(caddy.Context) error {
	if s.Path == "" {
		return errors.New("path: expected the path of a file, such as /var/log/llm-proxy/events.jsonl")
	}
	path, err := resolve(s.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	s.file, err = sink.NewFile(sink.FileConfig{
		Path: path, RollSize: s.RollSize, RollInterval: duration(s.RollInterval),
		RollKeep: s.RollKeep, RollKeepFor: duration(s.RollKeepFor),
	})
	return err
}

// Deliver implements [guest.Sink].
func (s *FileSink) Deliver(ctx context.Context, events []guest.Event) error {
	return s.file.Deliver(ctx, events)
}

// Cleanup closes the file.
func (s *FileSink) Cleanup() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// UnmarshalCaddyfile reads the block:
//
//	sink <name> {
//		type file
//		path <path>
//		roll_size <size>
//		roll_interval <duration>
//		roll_keep <number>|all
//		roll_keep_for <duration>
//	}
func (s *FileSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return sinkBlock(d, func(option string) (err error) {
		switch option {
		case "path":
			s.Path, err = oneArg(d)
		case "roll_size":
			if s.RollSize, err = parseSize(d); err == nil && s.RollSize < 1<<20 {
				err = d.Err("roll_size: expected 1MiB or more")
			}
		case "roll_interval":
			s.RollInterval, err = positiveDuration(d)
		case "roll_keep":
			s.RollKeep, err = parseKeep(d)
		case "roll_keep_for":
			s.RollKeepFor, err = positiveDuration(d)
		default:
			err = unknownSinkOption(d, "path, roll_size, roll_interval, roll_keep, roll_keep_for")
		}
		return err
	})
}

func parseKeep(d *caddyfile.Dispenser) (int, error) {
	text, err := oneArg(d)
	if err != nil {
		return 0, err
	}
	if text == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, d.Errf("roll_keep: %q is neither a positive whole number nor all", text)
	}
	return n, nil
}

// Interface guards
var (
	_ guest.Sink            = (*FileSink)(nil)
	_ caddy.Provisioner     = (*FileSink)(nil)
	_ caddy.CleanerUpper    = (*FileSink)(nil)
	_ caddyfile.Unmarshaler = (*FileSink)(nil)
)
