-- KEYS: answer. ARGV: epoch, number, answer, ms to keep it.
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', ARGV[2], 'answer', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
