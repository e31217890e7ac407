//go:build !unix

package main

import "errors"

func startRedis(...string) (url string, stop func() error, err error) {
	return "", nil, errors.New("a Redis server is started on Unix only: leave out what needs one with -run")
}
