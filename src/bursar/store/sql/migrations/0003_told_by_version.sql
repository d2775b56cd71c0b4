-- What was told of one subject is read by its version.
drop index numbered_sk;
