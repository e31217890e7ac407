//go:build unix

package main

import (
	"errors"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// startRedis starts a server with options such as "--appendonly".
func startRedis(options ...string) (url string, stop func() error, err error) {
	b := new(bed)
	err = b.try(func() { url = testdb.StartRedis(b, options...).URL() })
	return url, func() error {
		for _, f := range b.cleanups {
			f()
		}
		return errors.Join(b.failed...)
	}, err
}
