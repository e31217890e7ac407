package cli

import (
	"fmt"
	"math/big"
	"strings"
	"time"
)

const (
	chartWidth = 40
	chartDays  = 366 // beyond that, days without usage are left out
)

// usageChart draws a bar for each day: of the cost, or of tokens if nothing has a cost.
func (o Output) usageChart(rows []usageRow) error {
	if len(rows) == 0 {
		return nil
	}
	what, values, most := "cost $", make([]*big.Rat, len(rows)), new(big.Rat)
	for i := range rows {
		cost, ok := new(big.Rat).SetString(rows[i].CostUSD)
		if !ok {
			return fmt.Errorf("reading the answer: a cost is not a number")
		}
		if values[i] = cost; cost.Cmp(most) > 0 {
			most = cost
		}
	}
	if most.Sign() == 0 {
		what = "tokens"
		for i := range rows {
			values[i] = new(big.Rat).SetInt64(rows[i].InputTokens + rows[i].OutputTokens)
			if values[i].Cmp(most) > 0 {
				most = values[i]
			}
		}
	}
	byDay := map[string]int{}
	days := []string{}
	for i := range rows {
		byDay[rows[i].Day] = i
		days = append(days, rows[i].Day)
	}
	days = everyDay(days)
	if _, err := fmt.Fprintf(o.Out, "\n%s a day (UTC)\n", what); err != nil {
		return err
	}
	for _, day := range days {
		i, used := byDay[day]
		bar, text := "", "0"
		if used {
			bar = barOf(values[i], most)
			if text = rows[i].CostUSD; what == "tokens" {
				text = values[i].Num().String()
			}
		}
		if _, err := fmt.Fprintf(o.Out, "%s  %s  %s\n", OneLine(day), bar+strings.Repeat(" ", chartWidth-len([]rune(bar))), text); err != nil {
			return err
		}
	}
	return nil
}

// everyDay adds the days in between.
func everyDay(days []string) []string {
	first, err1 := time.Parse(time.DateOnly, days[0])
	last, err2 := time.Parse(time.DateOnly, days[len(days)-1])
	if err1 != nil || err2 != nil || last.Sub(first) > chartDays*24*time.Hour {
		return days
	}
	all := []string{}
	for at := first; !at.After(last); at = at.AddDate(0, 0, 1) {
		all = append(all, at.Format(time.DateOnly))
	}
	return all
}

// barOf is a bar in proportion; what is not zero can be seen.
func barOf(value, most *big.Rat) string {
	if value.Sign() <= 0 || most.Sign() <= 0 {
		return ""
	}
	share, _ := new(big.Rat).Quo(value, most).Float64()
	return strings.Repeat("█", max(1, int(share*chartWidth+0.5)))
}
