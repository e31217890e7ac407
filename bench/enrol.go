package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const managementToken = "bench-management-token-0123456789abcdef"

// loopback never uses a proxy of the environment and does not keep connections.
var loopback = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// enrol makes a project with the provider's key and a token of it, both with the
// limits, through the management API, and returns the token.
func enrol(ctx context.Context, addr string, limits map[string]any) (string, error) {
	with := func(members map[string]any) map[string]any {
		maps.Copy(members, limits)
		return members
	}
	var project struct {
		ID string `json:"id"`
	}
	if err := manage(ctx, addr, "/manage/projects", with(map[string]any{"name": "bench", "api_key": providerKey}), &project); err != nil {
		return "", err
	}
	var minted struct {
		Token string `json:"token"`
	}
	if err := manage(ctx, addr, "/manage/tokens", with(map[string]any{"project_id": project.ID, "name": "bench"}), &minted); err != nil {
		return "", err
	}
	if minted.Token == "" {
		return "", errors.New("POST /manage/tokens answered without a token")
	}
	return minted.Token, nil
}

func manage(ctx context.Context, addr, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+managementToken)
	r.Header.Set("Content-Type", "application/json")
	resp, err := loopback.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s answered %s: %s", path, resp.Status, text)
	}
	return json.Unmarshal(text, out)
}

// Tokens that are refused for one reason each.

// malformedToken is a token whose checksum is wrong.
func malformedToken(valid string) string { return valid[:len(valid)-1] + "!" }

// unknownToken is a token of no installation.
func unknownToken() (string, error) {
	text, _, err := token.Mint(time.Now())
	return text, err
}

// wrongSecret is a token with a valid one's id and another secret.
func wrongSecret(valid string) (string, error) {
	other, err := unknownToken()
	if err != nil {
		return "", err
	}
	id := len(token.Prefix) + base64.RawURLEncoding.EncodedLen(16)
	secret := id + base64.RawURLEncoding.EncodedLen(32)
	return withChecksum(valid[:id] + other[id:secret]), nil
}

// withChecksum appends a token's last six characters: the CRC-32 in base62.
func withChecksum(text string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := crc32.ChecksumIEEE([]byte(text))
	var b [6]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[sum%62]
		sum /= 62
	}
	return text + string(b[:])
}
