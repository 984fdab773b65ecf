-- Adds to a sliding window. It follows window_add.lua.
-- KEYS: the key. ARGV: the width in ms; the time in ms that the addition counts for, or '' for now; what is added; what
-- the sum must not exceed, or ''.
-- Returns what window_add returns.
-- It is one script so that no other client adds between the sum and the addition.
return window_add(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 0)
