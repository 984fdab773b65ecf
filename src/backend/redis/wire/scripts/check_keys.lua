-- Does nothing. The server refuses it to a user who may not use all of its KEYS.
return 1
