//go:build !unix

package main

import "errors"

type postgresServer struct{}

func (l *lab) postgres() (*postgresServer, error) {
	return nil, errors.New("a PostgreSQL server is started on Unix only: leave out what needs one with -run")
}

func (s *postgresServer) database() (string, error) { return "", nil }

func (s *postgresServer) close() error { return nil }

func freeBytes(string) int64 { return -1 }
