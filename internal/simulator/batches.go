package simulator

import "time"

// createBatch answers POST /v1/batches with a batch that has just been taken
// in; nothing is run. See https://platform.openai.com/docs/api-reference/batch/create.
func (c *call) createBatch() {
	var req struct {
		InputFileID      string            `json:"input_file_id"`
		Endpoint         string            `json:"endpoint"`
		CompletionWindow string            `json:"completion_window"`
		Metadata         map[string]string `json:"metadata"`
	}
	if !c.decode(&req) || !c.require("input_file_id", req.InputFileID != "") || !c.require("endpoint", req.Endpoint != "") {
		return
	}
	now := c.s.opt.Now()
	c.json(object{
		"id", c.id("batch_"), "object", "batch", "endpoint", req.Endpoint, "errors", nil,
		"input_file_id", req.InputFileID, "completion_window", req.CompletionWindow, "status", "validating",
		"output_file_id", nil, "error_file_id", nil,
		"created_at", now.Unix(), "expires_at", now.Add(24 * time.Hour).Unix(),
		"request_counts", object{"total", 0, "completed", 0, "failed", 0},
		"metadata", req.Metadata,
	})
}
