#!/bin/bash
# Fit of force-small to train.extxyz and valid.extxyz; resumes from its last checkpoint. About 25 s per epoch and core.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
exec mace_run_train --name=force_small --seed=1 --model=ScaleShiftMACE --train_file=train.extxyz --valid_file=valid.extxyz --E0s=average \
 --energy_key=REF_energy --forces_key=REF_forces --stress_key=REF_stress --compute_stress=True --loss=stress --energy_weight=1 --forces_weight=50 --stress_weight=20 \
 --num_interactions=2 --num_channels=16 --max_L=0 --correlation=2 --max_ell=2 --r_max=5.0 --num_radial_basis=8 --radial_MLP='[32,32,32]' --MLP_irreps=16x0e \
 --scaling=rms_forces_scaling --default_dtype=float32 --device=cpu --batch_size=4 --valid_batch_size=8 --lr=0.01 --scheduler=ExponentialLR --lr_scheduler_gamma=0.92 --weight_decay=1e-6 \
 --ema --ema_decay=0.995 --max_num_epochs=36 --eval_interval=1 --patience=1000 --error_table=PerAtomRMSEstressvirials --num_workers=0 --restart_latest  --work_dir=force_small
